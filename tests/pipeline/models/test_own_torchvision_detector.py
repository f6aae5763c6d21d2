"""A torchvision detector from the user's own file: padded, with a picture and its own classes."""

import numpy as np
import pytest
import torch
from PIL import Image
from test_own_detectors import FILES

from trtyard.core.coco import OWN, class_name
from trtyard.core.errors import UsageError
from trtyard.core.request import DYNAMIC
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.families import kind_of
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.comparison import compare_outputs

NETS = """
import torch, torchvision
from torchvision.models import detection
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign
from trtyard.pipeline.models.detector_seeding import seed_detector
from trtyard.pipeline.models.static_detectors.static_detector import OneImage

def custom(detections=7):
    backbone = torchvision.models.mobilenet_v2().features
    backbone.out_channels = 1280
    anchors = AnchorGenerator(sizes=((32, 64),), aspect_ratios=((0.5, 1.0),))
    pool = MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2)
    return detection.FasterRCNN(
        backbone, 3, rpn_anchor_generator=anchors, box_roi_pool=pool,
        box_detections_per_img=detections, rpn_post_nms_top_n_test=40,
    )

def ssd():
    model = detection.ssdlite320_mobilenet_v3_large(weights_backbone=None, num_classes=4).eval()
    picture = torch.rand(1, 3, 320, 320, generator=torch.Generator().manual_seed(0))
    seed_detector(OneImage(model), 0, picture)  # otherwise all scores are equal
    return model

class Derived(detection.FasterRCNN):
    pass

def derived():
    model = custom()
    model.__class__ = Derived
    return model

def broken():
    model = custom()
    model.backbone = torch.nn.Linear(3, 3)
    return model

def net():
    return torch.nn.Conv2d(3, 1, 1)
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)

    def load(name, shape="1x3x96x128", **options):
        return load_model(f"nets.py:{name}", input_shape=shape, **options)

    return load


def run(model, module):
    with torch.no_grad():
        return dict(zip(model.output_names, module(*model.inputs)))


def exported(model, file):
    names = model.input_names, model.output_names
    with torch.no_grad():
        return export_onnx(model.to_export, model.inputs, *names, model.exporter, 18, file)


def test_detector_is_padded_and_the_file_agrees(load, tmp_path):
    model = load("custom")
    assert model.inputs[0].shape == (1, 3, 96, 128)
    assert model.picture is not None
    file = tmp_path / "model.onnx"
    made = exported(model, file)
    assert made.custom_ops == ("PaddedNMS", "MaskRcnnROIAlign")
    assert not [one.text for one in made.warnings if one.of_tracer]
    expected = {name: value.numpy() for name, value in run(model, model.module).items()}
    assert expected["boxes"].shape == (7, 4)
    assert 0 < expected["count"][0] <= 7
    found = run_onnx(file, {"images": model.inputs[0].numpy()}, model.output_names)
    comparison = compare_outputs(model.kind, ("torch", "onnxruntime"), expected, found)
    assert comparison.passed, [each for each in comparison.parity if not each.passed]


def test_input_has_the_asked_size_and_is_not_resized_again(load):
    model = load("custom", "1x3x80x200")
    assert model.scale == (200 / 512, 80 / 512)
    boxes = run(model, model.module)["boxes"]
    assert float(boxes[:, 0::2].max()) <= 200
    assert float(boxes[:, 1::2].max()) <= 80


def test_an_ssd_still_resizes_another_size(load):
    for shape in ("1x3x320x320", "1x3x160x240"):
        model = load("ssd", shape)
        expected, found = run(model, model.module), run(model, model.static_form)
        torch.testing.assert_close(found["scores"], expected["scores"])
        assert found["count"].tolist() == expected["count"].tolist()


def test_picture_and_weights_are_the_users(load, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    first = load("custom", image=tmp_path / "photo.png")
    assert first.picture.rgb.shape == (90, 70, 3)
    torch.save({"model": first.static_form.detector.state_dict()}, tmp_path / "net.pth")
    torch.manual_seed(5)
    again = load("custom", image=tmp_path / "photo.png", weights="net.pth#model")
    assert "net.pth" in again.weights.source
    for name, value in run(first, first.module).items():
        torch.testing.assert_close(run(again, again.static_form)[name], value, rtol=0, atol=1e-4)


def test_labels_have_no_names_of_coco(load):
    model = load("custom")
    assert model.kind == "own_detector"
    outputs = {name: value.numpy() for name, value in run(model, model.module).items()}
    (found,) = kind_of(model.kind).detections(outputs)
    assert found.numbering == OWN
    assert class_name(1, found.numbering) == "class 1"


def test_dynamic_detections_are_not_padded(load):
    model = load("custom", detections=DYNAMIC)
    assert model.static_form is None
    assert set(model.output_names) == {"boxes", "scores", "labels"}


def test_derived_class_may_differ_and_is_not_replaced(load):
    with pytest.raises(UsageError, match=r"--image is not for nets\.py:derived"):
        load("derived", image="photo.png")


@pytest.mark.parametrize(
    "shape", ["2x3x96x96", "1x1x96x96", "1..2x3x96x96", "1x3x96x96,1x3", "1x3x96x96:float16"]
)
def test_other_inputs_are_refused(load, shape):
    with pytest.raises(UsageError, match="takes one picture of a fixed size") as caught:
        load("custom", shape)
    assert "--input 1x3x480x640" in caught.value.hint


@pytest.mark.parametrize("option", [{"image": "photo.png"}, {"detections": DYNAMIC}])
def test_other_own_models_take_no_picture(load, option):
    with pytest.raises(UsageError, match=r"is not for nets\.py:net"):
        load("net", **option)


def test_error_in_the_detector_is_the_users(load):
    with pytest.raises(UsageError, match=r"broken: the detector failed .* 128x96 pixels: Runtime"):
        load("broken")


def test_the_documented_example_is_padded(tmp_path, monkeypatch):
    (tmp_path / "finetuned.py").write_text(FILES["finetuned.py"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    model = load_model("finetuned.py:make_detector", input_shape="1x3x64x96")
    expected, found = run(model, model.module), run(model, model.static_form)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-3)
