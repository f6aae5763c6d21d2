"""torchvision's own detectors as models to convert."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision.ops.misc import FrozenBatchNorm2d

from trtyard.core.coco import COCO_80, COCO_90, class_name
from trtyard.core.errors import UsageError
from trtyard.core.files import sha256_of
from trtyard.core.request import DYNAMIC
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models import norm_epsilon
from trtyard.pipeline.models.families import torchvision_detector as family
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.torchvision_detector import (
    MAXIMUM_SIZE,
    MINIMUM_SIZE,
    detector_names,
    load_detector,
)
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.comparison import compare_outputs

SEEDED = Choice(None, 0)
SMALL = "fasterrcnn_mobilenet_v3_large_320_fpn"
PAIR = ("torch", "onnxruntime")
OPSET = 18


def outputs_of(model):
    with torch.no_grad():
        values = model.module(*model.inputs)
    return {name: value.numpy() for name, value in zip(model.output_names, values)}


@pytest.fixture(scope="module")
def small():
    return load_detector(SMALL, SEEDED, None, 128, detections=DYNAMIC)


@pytest.fixture
def found(small):
    return {name: value.copy() for name, value in outputs_of(small).items()}


def test_the_names_are_those_of_torchvisions_detectors():
    assert {SMALL, "maskrcnn_resnet50_fpn", "ssd300_vgg16"} <= set(detector_names())


def test_detections_use_torchvisions_output_names(small, found):
    assert small.kind == family.KIND.name
    assert set(found) == {"boxes", "labels", "scores"}
    rows = len(found["scores"])
    assert rows > 5
    assert found["boxes"].shape == (rows, 4)
    assert found["labels"].shape == (rows,)
    assert np.all(np.diff(found["scores"]) <= 0)
    assert tuple(small.inputs[0].shape[-2:]) == (128, 128)


def test_detector_does_not_resize_again(small):
    detector = small.module.module.detector
    images, _ = detector.transform([small.inputs[0][0]])
    assert images.image_sizes == [(128, 128)]


def test_no_side_is_resized(small):
    # Traced, torchvision's own resizing takes a pixel off 151 of these sides: in float32
    # (1 / 427) * 427 is below 1. What comes back as it is leaves nothing to trace.
    transform = small.module.module.detector.transform
    for side in range(MINIMUM_SIZE, MAXIMUM_SIZE + 1):
        for size in ((side, 64), (64, side), (side, side)):
            image = torch.zeros(1, 1, 1).expand(3, *size)
            assert transform.resize(image)[0] is image


def test_file_matches_pytorch_at_any_size(tmp_path):
    shape = (123, 164)  # torchvision's own resizing, traced, makes it (122, 163)
    Image.fromarray(read_picture().rgb).resize((640, 480)).save(tmp_path / "picture.png")
    picture = str(tmp_path / "picture.png")
    model = load_detector(SMALL, SEEDED, picture, shape[0], detections=DYNAMIC)
    assert tuple(model.inputs[0].shape[-2:]) == shape
    file = tmp_path / "model.onnx"
    with torch.no_grad():
        export_onnx(
            model.module,
            model.inputs,
            model.input_names,
            model.output_names,
            model.exporter,
            OPSET,
            file,
        )
    expected = outputs_of(model)
    found = run_onnx(file, {"images": model.inputs[0].numpy()}, model.output_names)
    comparison = compare_outputs(family.KIND.name, PAIR, expected, found)
    assert comparison.passed, [each for each in comparison.parity if not each.passed]
    assert len(expected["scores"]) > 5


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        pytest.param("ssd300_vgg16", None, (300, 300), marks=pytest.mark.slow),
        ("ssdlite320_mobilenet_v3_large", 320, (320, 320)),
        ("ssdlite320_mobilenet_v3_large", 150, (150, 200)),
        (SMALL, None, (320, 427)),
    ],
)
def test_an_ssd_takes_its_own_size_by_default(name, size, expected, tmp_path):
    Image.fromarray(read_picture().rgb).resize((640, 480)).save(tmp_path / "picture.png")
    model = load_detector(name, SEEDED, str(tmp_path / "picture.png"), size)
    assert tuple(model.inputs[0].shape[-2:]) == expected
    assert model.scale == (expected[1] / 640, expected[0] / 480)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("ssdlite320_mobilenet_v3_large", {"boxes", "labels", "scores"}),
        pytest.param(
            *("maskrcnn_resnet50_fpn", {"boxes", "labels", "scores", "masks"}),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("keypointrcnn_resnet50_fpn", {"boxes", "labels", "scores", "keypoints"}),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_each_kind_has_detections_to_compare(name, outputs):
    found = outputs_of(load_detector(name, SEEDED, None, 64, detections="dynamic"))
    assert outputs <= set(found)
    assert all(len(value) == len(found["scores"]) > 0 for value in found.values())
    assert np.isfinite(found["boxes"]).all()


def test_a_checkpoint_is_fitted_strictly(tmp_path, small, found):
    file = tmp_path / "detector.pth"
    torch.save(small.module.module.detector.state_dict(), file)
    again = load_detector(SMALL, Choice(str(file), 0), None, 128, detections=DYNAMIC)
    for name, value in outputs_of(again).items():
        np.testing.assert_array_equal(value, found[name])
    with pytest.raises(UsageError, match="does not fit this model"):
        load_detector("ssd300_vgg16", Choice(str(file), 0), None, 128)


@pytest.mark.parametrize(
    ("name", "epsilon", "spread"),
    [("fasterrcnn_resnet50_fpn", 0.0, 1e-2), ("fasterrcnn_mobilenet_v3_large_fpn", 1e-5, 0.25)],
)
def test_a_published_checkpoint_has_frozen_norms_and_older_keys(name, epsilon, spread, tmp_path):
    source = load_detector(name, SEEDED, None, 64)
    detector = source.module.module.detector
    for layer in detector.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.mul_(spread**2)  # so small that the epsilon shows
            layer.weight.mul_(spread)
            layer.eps = epsilon
    state = {
        key.replace("rpn.head.conv.0.0.", "rpn.head.conv."): value
        for key, value in detector.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(state, tmp_path / "published.pth")
    model = load_detector(name, Choice(str(tmp_path / "published.pth"), 0), None, 64)
    expected = outputs_of(source)
    assert len(expected["scores"]) > 5
    for output, value in outputs_of(model).items():
        np.testing.assert_allclose(value, expected[output], rtol=1e-3, atol=1e-3)


FROZEN = "fasterrcnn_resnet50_fpn"


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    """A checkpoint whose norms are frozen, with names of this torchvision, as trainings save it."""
    state = load_detector(FROZEN, SEEDED, None, 64).module.module.detector.state_dict()
    state = {key: value for key, value in state.items() if "num_batches" not in key}
    file = tmp_path_factory.mktemp("frozen") / "frozen.pth"
    torch.save(state, file)
    return file


def epsilons(model):
    norms = [
        each
        for each in model.module.modules()
        if isinstance(each, (FrozenBatchNorm2d, torch.nn.BatchNorm2d))
    ]
    assert len(norms) > 10
    return {each.eps for each in norms}


def test_frozen_norms_keep_the_models_epsilon(frozen):
    model = load_detector(FROZEN, Choice(str(frozen), 0), None, 64)
    assert epsilons(model) == {1e-5}
    (note,) = model.notes
    assert "epsilon 1e-05, as torchvision builds the model" in note
    assert "--norm-eps 0" in note


@pytest.mark.parametrize("epsilon", [0.0, 1e-3])
def test_requested_epsilon_is_used(frozen, epsilon):
    model = load_detector(FROZEN, Choice(str(frozen), 0), None, 64, epsilon)
    assert epsilons(model) == {epsilon}
    (note,) = model.notes
    assert f"epsilon {epsilon:g}, as --norm-eps has it" in note


def test_torchvisions_own_file_is_known_by_its_hash(frozen, monkeypatch):
    monkeypatch.setitem(norm_epsilon.WITHOUT_EPSILON, FROZEN, sha256_of(frozen)[:8])
    model = load_detector(FROZEN, Choice(str(frozen), 0), None, 64)
    assert epsilons(model) == {0.0}
    assert "epsilon 0, as torchvision has it for this published file" in model.notes[0]


def test_the_published_files_are_torchvisions():
    for name, digits in norm_epsilon.WITHOUT_EPSILON.items():
        weights = torchvision.models.get_model_weights(name)
        assert weights["COCO_V1"].url.endswith(f"-{digits}.pth")


@pytest.mark.parametrize("counted", [True, False])
def test_norms_with_another_epsilon_are_unchanged(counted, tmp_path):
    name = "ssdlite320_mobilenet_v3_large"
    state = load_detector(name, SEEDED, None, 64).module.module.detector.state_dict()
    state = {key: value for key, value in state.items() if counted or "num_batches" not in key}
    torch.save(state, tmp_path / "ssdlite.pth")
    model = load_detector(name, Choice(str(tmp_path / "ssdlite.pth"), 0), None, 64)
    assert epsilons(model) == {1e-3}
    assert len(model.notes) == (not counted)


def test_norm_with_zero_variance_is_named(frozen, tmp_path):
    state = torch.load(frozen, weights_only=True)
    state["backbone.body.bn1.running_var"][:3] = 0.0
    torch.save(state, tmp_path / "zero.pth")
    choice = Choice(str(tmp_path / "zero.pth"), 0)
    assert load_detector(FROZEN, choice, None, 64).notes  # 1e-5 is added to it
    with pytest.raises(UsageError, match=r"backbone\.body\.bn1\.running_var: 3 of 64 are 0"):
        load_detector(FROZEN, choice, None, 64, 0.0)


def test_wrapped_detector_checkpoint_loads(frozen, tmp_path):
    state = torch.load(frozen, weights_only=True)
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save({"model": wrapped, "model_ema": state}, tmp_path / "wrapped.pth")
    model = load_detector(FROZEN, Choice(str(tmp_path / "wrapped.pth"), 0, "model"), None, 64)
    assert epsilons(model) == {1e-5}


@pytest.mark.parametrize("size", [63, 1334])
def test_unsupported_size_is_refused(size):
    with pytest.raises(UsageError, match=f"--size {size}"):
        load_detector(SMALL, SEEDED, None, size)


def shuffled(outputs):
    order = np.random.RandomState(0).permutation(len(outputs["scores"]))
    return {name: value[order] for name, value in outputs.items()}


def test_detections_match_in_any_order(found):
    comparison = compare_outputs(family.KIND.name, PAIR, found, shuffled(found))
    assert comparison.passed
    (detections,) = comparison.detections
    assert detections.matched == detections.reference == len(found["scores"])
    assert detections.numbering == COCO_90


@pytest.mark.parametrize("spoilt", ["boxes", "scores", "labels"])
def test_a_detection_that_differs_fails(found, spoilt):
    other = {name: value.copy() for name, value in found.items()}
    other[spoilt][3] += 1
    assert not compare_outputs(family.KIND.name, PAIR, found, other).passed


def test_masks_and_keypoints_compare_matched_detections(found):
    rows = len(found["scores"])
    found["masks"] = np.random.RandomState(1).rand(rows, 1, 8, 8).astype(np.float32)
    other = shuffled(found)
    assert compare_outputs(family.KIND.name, PAIR, found, other).passed
    other["masks"][2, 0, 3, 3] += 0.5
    comparison = compare_outputs(family.KIND.name, PAIR, found, other)
    assert [row.output for row in comparison.parity if not row.passed] == ["masks"]
    del other["masks"]
    comparison = compare_outputs(family.KIND.name, PAIR, found, other)
    assert [row.output for row in comparison.parity if not row.passed] == ["masks"]


def test_outputs_that_are_no_detections_fail(found):
    other = {**found, "scores": found["scores"][:-1]}
    (detections,) = compare_outputs(family.KIND.name, PAIR, found, other).detections
    assert not detections.passed
    assert detections.problem.startswith("onnxruntime: shapes do not fit")


@pytest.mark.parametrize(
    ("label", "contiguous", "with_gaps"),
    [(1, "person", "person"), (12, "stop sign", "class 12"), (13, "parking meter", "stop sign")],
)
def test_labels_are_named_by_their_numbering(label, contiguous, with_gaps):
    assert class_name(label, COCO_80) == contiguous
    assert class_name(label, COCO_90) == with_gaps


def test_coco_numberings_end_with_the_same_class():
    assert class_name(90, COCO_90) == class_name(80, COCO_80) == "toothbrush"
    assert class_name(91, COCO_90) == "class 91"
