"""torchvision's classifiers: input, seeded weights, weights from a file."""

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import transforms

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.classifier import (
    DEVIATIONS,
    MEANS,
    classifier_names,
    load_classifier,
    network_input,
)
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.weights import Choice

SEEDED = Choice(None, 0)
SMALL = "shufflenet_v2_x0_5"


def logits_of(model):
    with torch.no_grad():
        return model.module(*model.inputs)


def test_names_match_torchvisions_classifiers():
    names = classifier_names()
    assert {"alexnet", "resnet50", "vit_b_16"} <= set(names)
    assert not [name for name in names if "rcnn" in name or "deeplab" in name or "raft" in name]


def test_input_matches_torchvisions_evaluation():
    picture = read_picture().rgb
    evaluation = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEANS, DEVIATIONS),
        ]
    )
    expected = evaluation(Image.fromarray(picture))[None]
    torch.testing.assert_close(network_input(picture, 224), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 400), (400, 16), (37, 53), (224, 224)])
@pytest.mark.parametrize("side", [1, 32, 299])
def test_input_is_square_for_any_picture(height, width, side):
    rgb = np.full((height, width, 3), (255, 0, 128), np.uint8)
    images = network_input(rgb, side)
    assert tuple(images.shape) == (1, 3, side, side)
    expected = (torch.tensor([1.0, 0.0, 128 / 255]) - torch.tensor(MEANS)) / torch.tensor(
        DEVIATIONS
    )
    torch.testing.assert_close(images, expected[None, :, None, None].expand_as(images))


def test_alexnet_logits_are_moderate_and_depend_on_input():
    model = load_classifier("alexnet", SEEDED, None, None)
    assert model.kind == "classifier"
    assert (model.input_names, model.output_names) == (("images",), ("logits",))
    assert tuple(model.inputs[0].shape) == (1, 3, 224, 224)
    assert not model.module.training
    logits = logits_of(model)
    assert tuple(logits.shape) == (1, 1000)
    assert 0.03 < float(logits.std()) < 0.12
    with torch.no_grad():
        other = model.module(model.inputs[0].flip(-1))
    assert float((other - logits).abs().max()) > 0.1 * float(logits.std())


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v3_small", "resnet50", "googlenet"])
def test_seeded_activations_stay_moderate(name):
    model = load_classifier(name, SEEDED, None, 128)
    sizes = []

    def note(layer, inputs, output):
        sizes.append(float(output.pow(2).mean().sqrt()))

    for layer in model.module.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.BatchNorm2d)):
            layer.register_forward_hook(note)
    logits = logits_of(model)
    assert 0.03 < float(logits.std()) < 0.12
    assert len(sizes) > 20
    assert min(sizes) > 1e-3
    assert max(sizes) < 100


@pytest.mark.parametrize("name", ["alexnet", "resnet101", "mobilenet_v2"])
def test_seeded_classifiers_do_not_amplify_rounding(name):
    model = load_classifier(name, SEEDED, None, 160)
    logits = logits_of(model)
    with torch.no_grad():
        exact = model.module.double()(model.inputs[0].double())
    assert float((logits - exact).abs().max()) < 1e-3 * float(exact.std())


def test_weights_depend_on_the_seed():
    first = load_classifier(SMALL, Choice(None, 3), None, 64)
    again = load_classifier(SMALL, Choice(None, 3), None, 64)
    other = load_classifier(SMALL, Choice(None, 4), None, 64)
    assert first.weights == again.weights
    assert first.weights.source == "seeded:3"
    assert first.weights.sha256 != other.weights.sha256
    assert torch.equal(logits_of(first), logits_of(again))
    assert not torch.equal(logits_of(first), logits_of(other))


def test_seeded_weights_do_not_depend_on_torchs_global_generator():
    torch.manual_seed(5)
    first = load_classifier(SMALL, SEEDED, None, 64)
    torch.manual_seed(6)
    assert load_classifier(SMALL, SEEDED, None, 64).weights == first.weights


def test_unsupported_size_is_a_usage_error():
    with pytest.raises(
        UsageError, match=r"alexnet cannot take 20x20 pixels: .*too small"
    ) as caught:
        load_classifier("alexnet", SEEDED, None, 20)
    assert caught.value.hint == "--size 224"
    for size in (0, -5, 5000):
        with pytest.raises(UsageError, match="supports 1 to 2048 pixels"):
            load_classifier("alexnet", SEEDED, None, size)


def test_file_weights_are_used(tmp_path):
    torch.manual_seed(0)
    source = torchvision.models.get_model(SMALL, weights=None).eval()
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    model = load_classifier(SMALL, Choice(str(path), 0), None, 64)
    with torch.no_grad():
        assert torch.equal(logits_of(model), source(model.inputs[0]))
    assert model.weights.source == str(path)


def test_another_models_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torchvision.models.get_model(SMALL, weights=None).state_dict(), path)
    with pytest.raises(UsageError, match="does not fit this model"):
        load_classifier("mobilenet_v3_small", Choice(str(path), 0), None, None)
