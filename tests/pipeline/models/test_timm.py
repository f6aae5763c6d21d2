"""Short form timm:NAME, with a package of the test's own: the rows do not have the real one."""

import shlex
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.report import BICUBIC, BILINEAR, CROP
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.registry import load_model

PACKAGE = """
from torch import nn

__version__ = "1.0"
CONFIG = {"input_size": (3, 48, 48), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4),
          "crop_pct": 0.9, "interpolation": "bicubic"}


class Net(nn.Module):
    def __init__(self, classes, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, classes)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).mean([2, 3]))


class Features(Net):
    def forward(self, x):
        return [self.conv(x)]


def list_models():
    return ["tiny_net", "features"]


def create_model(name, pretrained=True, num_classes=10, in_chans=3):
    assert not pretrained
    if name.partition(".")[0] not in list_models():
        raise RuntimeError("Unknown model " + name)
    net = (Features if name == "features" else Net)(num_classes, in_chans)
    setattr(net, "default_cfg" if name == "tiny_net.old" else "pretrained_cfg", CONFIG)
    return net
"""


@pytest.fixture
def timm(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    yield
    sys.modules.pop("timm", None)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("name", ["tiny_net", "tiny_net.in1k", "tiny_net.old"])
def test_picture_is_prepared_as_the_models_configuration_says(name):
    model = load_model(f"timm:{name}")
    assert (model.kind, model.output_names) == ("classifier", ("logits",))
    made = model.preprocess
    assert (made.fit, made.shorter_side, made.resample) == (CROP, 53, BICUBIC)
    assert (made.mean, made.deviation) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    evaluation = transforms.Compose(
        [
            transforms.Resize(53, Image.BICUBIC),
            transforms.CenterCrop(48),
            transforms.ToTensor(),
            transforms.Normalize(made.mean, made.deviation),
        ]
    )
    expected = evaluation(Image.fromarray(read_picture().rgb))[None]
    # torchvision rounds the crop to whole pixels.
    assert (model.inputs[0] - expected).abs().mean() < 0.05
    assert np.array_equal(model.prepare(read_picture().rgb), model.inputs[0])


@pytest.mark.usefixtures("timm")
def test_arguments_sizes_and_batches_are_taken():
    model = load_model("timm:tiny_net(num_classes=3)", input_shape="1..4x3x32x32")
    assert model.inputs[0].shape[2:] == (32, 32)
    assert model.dynamic is not None
    assert model.module(model.inputs[0]).shape[1] == 3
    assert load_model("timm:tiny_net", size=64).inputs[0].shape == (1, 3, 64, 64)


@pytest.mark.usefixtures("timm")
def test_weights_depend_on_the_seed_alone():
    first, again = load_model("timm:tiny_net").weights, load_model("timm:tiny_net").weights
    assert first == again
    assert first.source == "seeded:0"
    assert load_model("timm:tiny_net", weights="seeded:1").weights.sha256 != first.sha256


@pytest.mark.usefixtures("timm")
def test_weights_file_is_loaded(tmp_path):
    file = tmp_path / "w.pth"
    torch.save(load_model("timm:tiny_net", weights="seeded:7").module.state_dict(), str(file))
    model = load_model("timm:tiny_net", weights=str(file))
    assert model.weights.source == str(file)


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:tinynet", "timm 1.0 has no model 'tinynet'; similar names: tiny_net"),
        ("timm:hf_hub:tiny_net", "a name of timm has no colon"),
        ("timm:tiny_net(10)", "give arguments of timm.create_model by name"),
        ("timm:tiny_net(pretrained=True)", "without pretrained"),
        ("timm:tiny_net(depth=3)", "cannot be made: TypeError"),
        ("timm:tiny_net(in_chans=1)", "does not take pictures of 3 channels"),
        ("timm:features", "returns .*, not logits"),
    ],
)
def test_what_is_no_classifier_is_refused(spec, message):
    with pytest.raises(UsageError, match=message):
        load_model(spec)


@pytest.mark.usefixtures("timm")
def test_hints_are_quoted_for_a_shell():
    with pytest.raises(UsageError) as caught:
        load_model("timm:tinynet(num_classes=3)")
    assert caught.value.hint == "--model 'timm:tiny_net(num_classes=3)'"


@pytest.mark.parametrize(
    ("spec", "package"), [("timm:x", "timm"), ("timm:x(a=1)", "timm"), ("hf:x", "transformers")]
)
def test_missing_package_is_named_with_the_command(spec, package):
    with pytest.raises(EnvironmentLacksError) as caught:
        load_model(spec)
    assert f"the package {package} is not installed" in caught.value.message
    assert caught.value.hint == f"./run convert --model {shlex.quote(spec)} --with {package}"


def test_package_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "timm.py").write_text("import no_such_module_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(EnvironmentLacksError, match=r"cannot be imported: .*no_such_module_here"):
        load_model("timm:tiny_net")


def test_torchvisions_classifiers_are_still_bilinear():
    assert load_model("squeezenet1_1", size=64).preprocess.resample == BILINEAR
