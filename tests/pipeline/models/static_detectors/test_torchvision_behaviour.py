"""What torchvision's detectors promise, in their padded forms and after them."""

import math

import pytest
import torch
from PIL import Image

from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.torchvision_detector import load_detector
from trtyard.pipeline.models.weights import Choice

SEEDED = Choice(None, 0)
TWO_STAGES, ONE_STAGE = "fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320_mobilenet_v3_large"
NAMES = [TWO_STAGES, ONE_STAGE]


def outputs_of(model, module):
    with torch.no_grad():
        return dict(zip(model.output_names, module(*model.inputs), strict=True))


def same(model):
    expected, found = outputs_of(model, model.module), outputs_of(model, model.static_form)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-3)
    return expected


def two_pictures():
    torch.manual_seed(0)
    return [torch.rand(3, 96, 144), torch.rand(3, 130, 80)]


@pytest.fixture(scope="module", params=NAMES)
def model(request):
    return load_detector(request.param, SEEDED, None, 96)


# (width, height); the other tests have wide, tiny and large pictures.
@pytest.mark.parametrize("size", [(400, 600), (64, 800), (97, 97)])
@pytest.mark.parametrize("name", NAMES)
def test_tall_and_square_pictures_have_torchvisions_detections(name, size, tmp_path):
    Image.fromarray(read_picture().rgb).resize(size).save(tmp_path / "picture.png")
    model = load_detector(name, SEEDED, str(tmp_path / "picture.png"), 131)
    assert int(same(model)["count"]) > 5


def test_boxes_lie_in_the_picture_by_descending_score(model):
    found = outputs_of(model, model.static_form)
    count = int(found["count"])
    height, width = model.inputs[0].shape[-2:]
    boxes, scores = found["boxes"][:count], found["scores"][:count]
    assert bool((boxes >= 0).all())
    assert bool((boxes <= torch.tensor([width, height, width, height])).all())
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())
    assert bool((scores[1:] <= scores[:-1]).all())
    assert bool((found["labels"][:count] > 0).all())


def test_detector_takes_pictures_of_two_sizes_after_the_static_form(model):
    detector = model.static_form.detector
    with torch.no_grad():
        before = detector(two_pictures())
        outputs_of(model, model.static_form)
        after = detector(two_pictures())
    assert len(before) == len(after) == 2
    for left, right in zip(before, after, strict=True):
        assert len(left["scores"]) > 0
        for name, value in left.items():
            assert torch.equal(right[name], value)


def test_detector_still_learns_from_pictures_without_objects(model):
    detector = model.static_form.detector
    outputs_of(model, model.static_form)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    state = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.train()
    try:
        losses = detector(two_pictures(), [nothing, nothing])
    finally:
        detector.eval()
        detector.load_state_dict(state)  # the norms learned
    assert len(losses) >= 2
    assert all(math.isfinite(float(loss)) for loss in losses.values())


def test_no_proposal_gives_padding_alone():
    model = load_detector(TWO_STAGES, SEEDED, None, 96)
    model.static_form.detector.rpn.score_thresh = 1.1
    assert not any(bool(value.any()) for value in same(model).values())
