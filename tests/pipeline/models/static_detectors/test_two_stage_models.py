"""torchvision's two-stage detectors with padded outputs, against the unmodified ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models import torchvision_detector as detectors
from trtyard.pipeline.models.families import torchvision_detector as family
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.torchvision_detector import load_detector
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.pipeline.tensorrt.engine import build_engine
from trtyard.pipeline.torch_support.versions import detector_names

SEEDED = Choice(None, 0)
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
NAMES = [
    name
    for name in detector_names()
    if name.startswith(("fasterrcnn", "maskrcnn", "keypointrcnn")) and name != SMALL
]
OPSET = 18
# Wide, tiny and large pictures; (width, height).
PICTURES = {"wide": (600, 400), "tiny": (24, 16), "large": (2000, 2600)}


@pytest.fixture
def few_detections(monkeypatch):
    """Limit what the heads of most time run on: every row of the padding.

    Masks and keypoints are for 20 detections. The box heads of _v2, four convolutions, are for 200
    proposals. The others keep torchvision's numbers.
    """
    usual = detectors.untrained_detector

    def untrained(name):
        detector = usual(name)
        if not name.startswith("fasterrcnn"):
            detector.roi_heads.detections_per_img = 20
        if name.endswith("_v2"):
            detector.rpn._post_nms_top_n["testing"] = 200
        return detector

    monkeypatch.setattr(detectors, "untrained_detector", untrained)


def load(name, size, picture, folder):
    file = Path(folder) / "picture.png"
    Image.fromarray(read_picture().rgb).resize(PICTURES[picture]).save(file)
    return load_detector(name, SEEDED, str(file), size)


def outputs_of(model, module):
    with torch.no_grad():
        return dict(zip(model.output_names, module(*model.inputs)))


def agree(model, least=1):
    """Check that the static form returns the reference's detections; return their number."""
    expected, found = outputs_of(model, model.module), outputs_of(model, model.static_form)
    count = int(expected["count"])
    assert found["count"].tolist() == [count]
    assert count >= least
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert not bool(found[name][count:].any()) or name == "count"
    torch.testing.assert_close(found["labels"], expected["labels"])
    torch.testing.assert_close(found["boxes"], expected["boxes"], rtol=0, atol=1e-3)
    torch.testing.assert_close(found["scores"], expected["scores"], rtol=0, atol=1e-5)
    if "masks" in expected:
        torch.testing.assert_close(found["masks"], expected["masks"], rtol=0, atol=1e-4)
    if "keypoints" in expected:
        scores = "keypoints_scores"
        torch.testing.assert_close(found[scores], expected[scores], rtol=0, atol=1e-4)
        # The scores of both are the highest of one heatmap: at another place it is a tie.
        apart = (found["keypoints"] - expected["keypoints"]).abs().amax(2) > 1e-3
        assert float(apart.float().mean()) < 0.01
    return count


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("size", [96, 131])
def test_static_form_returns_torchvisions_detections(picture, size, tmp_path):
    agree(load(SMALL, size, picture, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(("picture", "size"), list(zip(PICTURES, (96, 131, 96))))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("few_detections")
def test_every_static_form_returns_torchvisions_detections(name, picture, size, tmp_path):
    agree(load(name, size, picture, tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        pytest.param("maskrcnn_resnet50_fpn", marks=pytest.mark.slow),
        pytest.param("keypointrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("few_detections")
def test_a_picture_without_detections_is_only_padding(name, tmp_path):
    model = load(name, 64, "wide", tmp_path)
    model.static_form.detector.roi_heads.score_thresh = 1.0
    assert agree(model, least=0) == 0
    found = outputs_of(model, model.static_form)
    assert not any(bool(value.any()) for value in found.values())


def test_full_rows_are_torchvisions_best(tmp_path):
    model = load(SMALL, 131, "wide", tmp_path)
    assert agree(model) == 100


def exported(model, exporter, file):
    names = model.input_names, model.output_names
    with torch.no_grad():
        return export_onnx(model.to_export, model.inputs, *names, exporter, OPSET, file)


@pytest.mark.parametrize(
    "exporter", ["torchscript", pytest.param("dynamo", marks=pytest.mark.slow)]
)
def test_file_has_only_fixed_shapes_and_agrees(exporter, tmp_path):
    model = load(SMALL, 96, "wide", tmp_path)
    file = tmp_path / "model.onnx"
    assert exported(model, exporter, file).custom_ops == ("PaddedNMS", "MaskRcnnROIAlign")
    expected = {name: value.numpy() for name, value in outputs_of(model, model.module).items()}
    found = run_onnx(file, {"images": model.inputs[0].numpy()}, model.output_names)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
    comparison = compare_outputs(family.KIND.name, ("torch", "onnxruntime"), expected, found)
    assert comparison.passed, [each for each in comparison.parity if not each.passed]
    np.testing.assert_array_equal(found["count"], expected["count"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        (SMALL, ["MaskRcnnROIAlign"]),
        ("fasterrcnn_resnet50_fpn", ["MultiscaleRoIAlign"]),
        ("maskrcnn_resnet50_fpn", ["MultiscaleRoIAlign"] * 2),
        ("keypointrcnn_resnet50_fpn", ["MultiscaleRoIAlign"] * 2),
    ],
)
@pytest.mark.usefixtures("few_detections")
def test_engine_has_the_plugins(name, pooling, tmp_path):
    model = load(name, 64, "wide", tmp_path)
    file = tmp_path / "model.onnx"
    exported(model, model.exporter, file)
    facts = build_engine(file, tmp_path / "model.engine")
    assert sorted(facts.plugin_layers) == sorted([*pooling, "PaddedNMS", "PaddedNMS"])


@pytest.mark.slow
def test_network_has_no_more_layers_than_that_of_dynamo(tmp_path):
    model = load(SMALL, 320, "wide", tmp_path)
    layers = []
    for exporter in (model.exporter, "dynamo"):
        exported(model, exporter, tmp_path / "model.onnx")
        layers.append(build_engine(tmp_path / "model.onnx", tmp_path / "model.engine").layers)
    assert layers[0] <= layers[1]


def test_published_checkpoint_gives_the_same_detections(tmp_path):
    model = load_detector(SMALL, SEEDED, None, 96)
    file = tmp_path / "detector.pth"
    torch.save(model.static_form.detector.state_dict(), file)
    again = load_detector(SMALL, Choice(str(file), 0), None, 96)
    expected, found = outputs_of(model, model.module), outputs_of(again, again.static_form)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)
