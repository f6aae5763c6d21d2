"""RetinaNet, FCOS and SSD with padded outputs, against torchvision's unmodified detectors."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import boxes as box_ops

from trtyard.core.request import DYNAMIC
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.torchvision_detector import load_detector
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.pipeline.tensorrt.engine import build_engine

SEEDED = Choice(None, 0)
SMALL = "ssdlite320_mobilenet_v3_large"
RETINANET, FCOS, SSD = "retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16"
NAMES = [SMALL, SSD, RETINANET, "retinanet_resnet50_fpn_v2", FCOS]
# Most detections, and two sizes of the input: an SSD's own and another one.
ROWS = {SMALL: 300, SSD: 200, RETINANET: 300, "retinanet_resnet50_fpn_v2": 300, FCOS: 100}
SIZES = {SMALL: (None, 150), SSD: (None, 200)}
OTHER_SIZES = (96, 160)
PICTURES = {"wide": (720, 480), "tiny": (16, 19), "large": (1500, 2300)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return the file of each picture by name."""
    folder = tmp_path_factory.mktemp("pictures")
    rgb = read_picture().rgb
    for name, size in PICTURES.items():
        Image.fromarray(rgb).resize(size).save(folder / f"{name}.png")
    return {name: str(folder / f"{name}.png") for name in PICTURES}


def run(module, model):
    with torch.no_grad():
        values = module(*model.inputs)
    return dict(zip(model.output_names, values, strict=True))


def same(model):
    """Return the outputs, which PyTorch and the static form give bit for bit."""
    expected, found = run(model.module, model), run(model.static_form, model)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name
    return expected


def detector_of(model):
    return model.static_form.detector


def round_logits(model, step):
    """Round class logits in both forms, so that many scores are equal."""

    def rounded(_module, _inputs, outputs):
        return {**outputs, "cls_logits": torch.round(outputs["cls_logits"] / step) * step}

    return detector_of(model).head.register_forward_hook(rounded)


@pytest.fixture
def stable(monkeypatch):
    """Make torchvision's topk and sort keep the order of equal values, which torch leaves open."""

    def sort(values, dim=-1, descending=False):
        return torch.sort(values, dim=dim, descending=descending, stable=True)

    def topk(values, k, dim=-1):
        return [each.narrow(dim, 0, k) for each in sort(values, dim, descending=True)]

    monkeypatch.setattr(torch.Tensor, "sort", sort)
    monkeypatch.setattr(torch.Tensor, "topk", topk)


@pytest.mark.slow
@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures(
    "stable"
)  # two detections of RetinaNet in the large picture have one score
def test_every_detection_is_torchvisions(name, picture, pictures):
    for size in SIZES.get(name, OTHER_SIZES):
        model = load_detector(name, SEEDED, pictures[picture], size)
        outputs = same(model)
        assert int(outputs["count"]) > 5
        assert outputs["boxes"].shape == (ROWS[name], 4)


@pytest.mark.parametrize(("name", "size"), [(SMALL, None), (SMALL, 150), (FCOS, 64)])
def test_outputs_are_padded_to_the_most_detections(name, size):
    outputs = same(load_detector(name, SEEDED, None, size))
    rows = ROWS[name]
    shapes = {name: list(value.shape) for name, value in outputs.items()}
    assert shapes == {"boxes": [rows, 4], "scores": [rows], "labels": [rows], "count": [1]}
    assert [str(outputs[name].dtype)[6:] for name in ("labels", "count")] == ["int64", "int32"]


# RetinaNet at 64 has 845 candidates above 0.97 and thousands above 0.05.
@pytest.mark.parametrize("threshold", [0.05, 0.97])
def test_both_ways_of_batched_nms_are_followed(threshold, monkeypatch):
    model = load_detector(RETINANET, SEEDED, None, 64)
    detector_of(model).score_thresh = threshold
    by_class = []
    usual = box_ops._batched_nms_vanilla
    monkeypatch.setattr(
        box_ops, "_batched_nms_vanilla", lambda *given: by_class.append(1) or usual(*given)
    )
    assert int(same(model)["count"]) > 20
    assert bool(by_class) == (threshold < 0.5)


@pytest.mark.parametrize(
    ("name", "step", "threshold"), [(SMALL, 8, 0.3), (RETINANET, 0.5, 0.4), (FCOS, 0.5, 0.4)]
)
@pytest.mark.usefixtures("stable")
def test_equal_scores_give_the_same_detections(name, step, threshold):
    model = load_detector(name, SEEDED, None, None if name == SMALL else 64)
    detector_of(model).detections_per_img = 2500
    detector_of(model).score_thresh = threshold
    round_logits(model, step)
    outputs = same(model)
    count = int(outputs["count"])
    assert 100 < count < 2500
    assert len(outputs["scores"][:count].unique()) < count / 2


@pytest.mark.parametrize("name", [SMALL, RETINANET, FCOS])
def test_no_detection_gives_padding_alone(name):
    model = load_detector(name, SEEDED, None, None if name == SMALL else 64)
    detector_of(model).score_thresh = 1.0
    assert not any(bool(value.any()) for value in same(model).values())


@pytest.mark.parametrize("name", [SMALL, RETINANET, FCOS])
def test_a_hundred_detections_fill_every_row(name):
    model = load_detector(name, SEEDED, None, None if name == SMALL else 64)
    detector_of(model).detections_per_img = 100
    outputs = same(model)
    assert int(outputs["count"]) == len(outputs["scores"]) == 100
    assert bool((outputs["scores"] > 0).all())


def exported(model, file, exporter=None):
    with torch.no_grad():
        return export_onnx(
            model.to_export,
            model.inputs,
            model.input_names,
            model.output_names,
            exporter or model.exporter,
            18,
            file,
        )


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (SMALL, None),
        *(pytest.param(name, 160, marks=pytest.mark.slow) for name in NAMES[1:]),
    ],
)
def test_file_and_engine_have_the_unmodified_models_detections(name, size, tmp_path, pictures):
    model = load_detector(name, SEEDED, pictures["wide"], size)
    file = tmp_path / "model.onnx"
    facts = exported(model, file)
    assert facts.custom_ops == facts.functions == ("PaddedNMS",)
    expected = {name: value.numpy() for name, value in run(model.module, model).items()}
    found = run_onnx(file, {"images": model.inputs[0].numpy()}, model.output_names)
    comparison = compare_outputs(model.kind, ("torch", "onnxruntime"), expected, found)
    assert comparison.passed, comparison
    (detections,) = comparison.detections
    assert detections.matched == detections.reference == int(expected["count"][0]) > 5
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=1e-3)
    shapes = {one: list(value.shape) for one, value in found.items()}
    rows = ROWS[name]
    assert shapes == {"boxes": [rows, 4], "scores": [rows], "labels": [rows], "count": [1]}
    engine = build_engine(file, tmp_path / "model.engine")
    assert engine.plugin_layers == ("PaddedNMS",)


@pytest.mark.slow
def test_picture_without_detection_gives_padding_in_the_file(tmp_path):
    model = load_detector(SMALL, SEEDED, None, None)
    detector_of(model).score_thresh = 1.0
    exported(model, tmp_path / "model.onnx")
    inputs = {"images": model.inputs[0].numpy()}
    found = run_onnx(tmp_path / "model.onnx", inputs, model.output_names)
    assert all(not value.any() for value in found.values())
    expected = {name: value.numpy() for name, value in run(model.module, model).items()}
    assert compare_outputs(model.kind, ("torch", "onnxruntime"), expected, found).passed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [(SMALL, None), (FCOS, 160), (RETINANET, 160)])
def test_network_has_no_more_layers_than_that_of_dynamo(name, size, tmp_path):
    model = load_detector(name, SEEDED, None, size)
    layers = []
    for exporter in (model.exporter, "dynamo"):
        exported(model, tmp_path / "model.onnx", exporter)
        layers.append(build_engine(tmp_path / "model.onnx", tmp_path / "model.engine").layers)
    assert layers[0] <= layers[1]


def test_dynamic_detections_are_torchvisions_own():
    model = load_detector(SMALL, SEEDED, None, None, detections=DYNAMIC)
    assert model.static_form is None
    assert model.to_export is model.module
    assert model.exporter == "torchscript"
    assert set(model.output_names) == {"boxes", "scores", "labels"}
    other = load_detector(SMALL, SEEDED, None, None)
    padded = run(other.module, other)
    count = int(padded["count"])
    for name, value in run(model.module, model).items():
        assert torch.equal(value, padded[name][:count])


def test_weights_are_those_of_the_unmodified_detector():
    padded = load_detector(SMALL, SEEDED, None, None)
    dynamic = load_detector(SMALL, SEEDED, None, None, detections=DYNAMIC)
    assert padded.weights == dynamic.weights
