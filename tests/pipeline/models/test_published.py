"""The weights that torchvision publishes: their addresses, and results as torchvision's own."""

import json
import re

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from trtyard.core.known_models import KINDS
from trtyard.pipeline.models import weights
from trtyard.pipeline.models.classifier import load_classifier, network_input
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.segmenter import load_segmenter
from trtyard.pipeline.models.torchvision_detector import load_detector
from trtyard.pipeline.models.weights import SEEDED, Choice, choose, print_address
from trtyard.pipeline.torch_support.old_pickles import load_only_tensors
from trtyard.pipeline.torch_support.published import look_of, published, published_as

NAMES = [name for kind in ("classifier", "segmenter", "detector") for name in KINDS[kind].names]


@pytest.mark.parametrize("name", NAMES)
def test_every_model_has_an_address_with_a_hash(name, capsys):
    found = published(name)
    assert found[0].digits
    assert found[0].entry is torchvision.models.get_model_weights(name).DEFAULT
    for one in found:
        assert published_as(name, one.digits + "0" * (64 - len(one.digits))) == one
    assert published_as(name, "0" * 64) is None
    assert print_address(name) == 0
    assert json.loads(capsys.readouterr().out)["address"] == found[0].address


def test_other_names_have_none(capsys):
    assert print_address("faster_rcnn") == 0
    assert json.loads(capsys.readouterr().out)["address"] is None


@pytest.fixture
def as_published(tmp_path, monkeypatch):
    """Return a function that loads seeded weights as if they were the published ones.

    It returns our model, and torchvision's own, which takes the file from the folder in which
    torch.hub keeps its downloads.
    """
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))

    def load(loader, name, old_names=False, **options):
        (known, *_) = published(name)
        file = tmp_path / "checkpoints" / known.address.rpartition("/")[2]
        file.parent.mkdir()
        seeded = loader(name, choose(SEEDED), None, 320 if loader is load_detector else 128)
        state = getattr(seeded.module, "module", seeded.module).state_dict()
        state = {key.replace("detector.", "", 1): value for key, value in state.items()}
        if old_names:  # of before torchvision 0.3
            dense = re.compile(r"(denselayer\d+\.(?:norm|conv))([12]\.)")
            state = {dense.sub(r"\1.\2", key): value for key, value in state.items()}
            state = {key: value for key, value in state.items() if "num_batches" not in key}
        torch.save(state, file)
        monkeypatch.setattr(
            weights, "published_as", lambda asked, _: known if asked == name else None
        )
        with torch.no_grad():
            reference = torchvision.models.get_model(name, weights=known.entry).eval()
        return loader(name, Choice(str(file), 0), None, None, **options), reference, known.entry

    return load


def picture():
    return Image.fromarray(read_picture().rgb)


@pytest.mark.parametrize("name", ["efficientnet_b1", "resnet18", "vit_h_14", "swin_v2_t"])
@pytest.mark.parametrize("box", [(0, 0, 512, 301), (7, 0, 260, 511), (0, 0, 511, 510)])
def test_any_picture_is_prepared_as_by_torchvision(name, box):
    (known, *_) = published(name)
    look = look_of(known)
    cut = picture().crop(box)
    found = network_input(np.asarray(cut), look.cropped, look)
    step = 3 / 255 / min(look.deviation)  # of three in a pixel: Pillow rounds twice
    torch.testing.assert_close(found[0], known.entry.transforms()(cut), atol=step, rtol=0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "old_names"),
    [("googlenet", False), ("efficientnet_b1", False), ("densenet121", True), ("resnet18", False)],
)
def test_a_classifier_gives_torchvisions_own_result(as_published, name, old_names):
    model, reference, entry = as_published(load_classifier, name, old_names)
    expected_input = entry.transforms()(picture())[None]
    np.testing.assert_allclose(model.inputs[0], expected_input, atol=0.02)
    made = model.preprocess
    assert made.shorter_side == entry.transforms().resize_size[0]
    assert made.resample == entry.transforms().interpolation.value
    with torch.no_grad():
        torch.testing.assert_close(model.module(expected_input), reference(expected_input))


def test_an_asked_size_keeps_the_ratio(as_published):
    model, _, _ = as_published(load_classifier, "efficientnet_b1", input_shape="1x3x120x120")
    assert tuple(model.inputs[0].shape) == (1, 3, 120, 120)
    look = look_of(published("efficientnet_b1")[0])
    assert model.preprocess.shorter_side == -(-120 * look.resized // look.cropped)


def test_a_segmenter_gives_torchvisions_own_result(as_published):
    model, reference, entry = as_published(load_segmenter, "lraspp_mobilenet_v3_large")
    expected_input = entry.transforms()(picture())[None]
    np.testing.assert_allclose(model.inputs[0], expected_input, atol=0.02)
    with torch.no_grad():
        (found,) = model.module(expected_input)
        torch.testing.assert_close(found, reference(expected_input)["out"])


@pytest.mark.filterwarnings("ignore")
def test_a_detector_gives_torchvisions_own_result(as_published):
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    model, reference, _ = as_published(load_detector, name)
    assert min(model.inputs[0].shape[2:]) == 320
    with torch.no_grad():
        (expected,) = reference([model.inputs[0][0]])
        found = dict(zip(model.output_names, model.module(*model.inputs)))
    assert len(expected["scores"]) > 0
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value)


def test_an_old_torch_unpickles_only_tensors(tmp_path):
    state = torch.nn.Linear(3, 2).state_dict()
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_only_tensors(str(tmp_path / "old.pth")).keys() == state.keys()
    torch.save({"code": json.loads}, tmp_path / "code.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(Exception, match=r"GLOBAL json\.loads"):
        load_only_tensors(str(tmp_path / "code.pth"))
