"""torchvision's models for semantic segmentation: outputs, seeded weights, weights from a file."""

import pytest
import torch
import torchvision

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.classifier import network_input
from trtyard.pipeline.models.segmenter import load_segmenter, segmenter_names
from trtyard.pipeline.models.weights import Choice

SMALL = "lraspp_mobilenet_v3_large"
SEEDED = Choice(None, 0)


def outputs_of(model):
    with torch.no_grad():
        return dict(zip(model.output_names, model.module(*model.inputs)))


def test_the_names_are_those_of_torchvisions_segmentation_models():
    assert {SMALL, "fcn_resnet50", "deeplabv3_resnet50"} <= set(segmenter_names())
    assert "resnet50" not in segmenter_names()


def test_the_dict_comes_flat_and_depends_on_the_picture():
    model = load_segmenter(SMALL, SEEDED, None, 96)
    assert model.kind == "segmenter"
    (out,) = outputs_of(model).values()
    assert model.output_names == ("out",)
    assert tuple(out.shape) == (1, 21, 96, 96)
    assert 0.1 < float(out.std()) < 10
    with torch.no_grad():
        (other,) = model.module(model.inputs[0].flip(-1))
    assert float((other - out).abs().max()) > 0.1 * float(out.std())


def test_auxiliary_classifier_in_checkpoint_adds_output(tmp_path):
    published = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, aux_loss=True
    ).eval()
    file = tmp_path / "fcn.pth"
    torch.save(published.state_dict(), file)
    model = load_segmenter("fcn_resnet50", Choice(str(file), 0), None, 64)
    found = outputs_of(model)
    with torch.no_grad():
        expected = published(network_input(model.picture.rgb, 64))
    assert list(found) == ["out", "aux"]
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name])


def test_the_same_seed_gives_the_same_weights():
    first, again = (load_segmenter(SMALL, Choice(None, 3), None, 64) for _ in range(2))
    assert first.weights == again.weights
    assert first.weights.sha256 != load_segmenter(SMALL, SEEDED, None, 64).weights.sha256


@pytest.mark.parametrize("size", [0, 31, 2049])
def test_unsupported_size_is_refused(size):
    with pytest.raises(UsageError, match=f"--size {size}: {SMALL} supports 32 to 2048 pixels"):
        load_segmenter(SMALL, SEEDED, None, size)
