"""--input for models that take pictures."""

import pytest
import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.dynamic.dimensions import Range
from trtyard.pipeline.models.image_inputs import read_images, variations
from trtyard.pipeline.models.registry import load_model


def test_batch_and_sides_are_read():
    asked = read_images("1..8x3x64x96", "resnet18", None, sides_vary=True)
    assert (asked.batch, asked.height, asked.width) == (4, 64, 96)
    assert asked.has_open_batch
    asked = read_images("images=2x3x64..128x96", "fcn_resnet50", None, sides_vary=True)
    assert asked.axes == ((2, "height"),)
    assert asked.profiles == ({"height": Range(64, 128, 128)},)
    assert not asked.has_open_batch


@pytest.mark.parametrize(
    ("text", "size", "said"),
    [
        ("1..8x3x64", None, "takes 4 dimensions, batch x 3 x height x width, not 3"),
        ("1..8x1..8x3x64x64", None, "takes 4 dimensions, batch x 3 x height x width, not 5"),
        ("1x4x64x64", None, "have 3 channels"),
        ("1x1..3x64x64", None, "have 3 channels"),
        ("x=1..8x3x64x64", None, "has no input 'x'; it has: images"),
        ("1..8x3x64x64:int64", None, "are always float32"),
        ("1x3x64x64,1", None, "has one input, not 2"),
        ("1..8x3x64x64", 64, "--size and --input both set"),
        ("1..8x3x64..128x64", None, "only the batch of faster_rcnn can vary.*height cannot"),
    ],
)
def test_what_a_model_of_pictures_does_not_take_is_refused(text, size, said):
    with pytest.raises(UsageError, match=said) as caught:
        read_images(text, "faster_rcnn", size, sides_vary=False)
    assert "3x" in caught.value.hint


def test_variations_start_with_the_picture_and_differ():
    image = torch.rand(1, 3, 16, 24)
    batch = variations(image, 4, 0)
    assert torch.equal(batch[:1], image)
    assert len({tuple(each.flatten().tolist()) for each in batch}) == 4
    assert torch.equal(batch, variations(image, 4, 0))
    other = variations(image, 4, 1)
    assert not torch.equal(other[:1], image)
    assert torch.allclose(other.sum((1, 2, 3)), image.sum().expand(4), rtol=1e-4)


@pytest.mark.parametrize("name", ["alexnet", "fcn_resnet50", "faster_rcnn"])
def test_families_give_pictures_at_every_size(name):
    model = load_model(name, input_shape="1..4x3x64x96")
    assert model.inputs[0].shape == (2, 3, 64, 96)
    assert model.dynamic.axes == ({0: "batch"},)
    (three,) = model.dynamic.draw({"batch": 3}, 5)
    assert three.shape == (3, 3, 64, 96)


def test_a_fixed_batch_does_not_vary():
    model = load_model("alexnet", input_shape="2x3x64x64")
    assert model.dynamic is None
    assert model.inputs[0].shape == (2, 3, 64, 64)


def test_the_first_picture_is_that_of_a_run_without_input():
    given = load_model("alexnet", input_shape="1..4x3x64x64").inputs[0]
    assert torch.equal(given[:1], load_model("alexnet", size=64).inputs[0])


def test_a_range_beyond_what_the_model_takes_is_refused():
    with pytest.raises(UsageError, match="fcn_resnet50 supports 32 to 2048 pixels, not 16"):
        load_model("fcn_resnet50", input_shape="1x3x16..64x64")
    with pytest.raises(UsageError, match="--input is not for ssd300_vgg16") as caught:
        load_model("ssd300_vgg16", input_shape="1..8x3x300x300")
    assert "--model faster_rcnn" in caught.value.hint


@pytest.mark.parametrize("name", ["squeezenet1_1", "lraspp_mobilenet_v3_large"])
@pytest.mark.parametrize("text", ["2x3x64x64", "1:2:4x3x64x64"])
def test_calibration_picture_has_the_shape_of_the_input(name, text):
    model = load_model(name, input_shape=text)
    prepared = model.prepare(model.picture.rgb)
    assert prepared.shape == model.inputs[0].shape == (2, 3, 64, 64)
    torch.testing.assert_close(prepared[0], model.inputs[0][0], rtol=0, atol=0)
