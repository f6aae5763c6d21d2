"""A model that computes NaN in PyTorch: no agreement with it is a pass."""

from pathlib import Path

import pytest
import torch

from trtyard.core.report import FAILED, PASSED
from trtyard.core.request import ONNX
from trtyard.pipeline.conversion import Conversion, PluginSource
from trtyard.pipeline.models.families import own
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.row import Row

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "torchscript", 18, "13.0", ("89",), ("8.9",))


class Log(torch.nn.Module):
    def forward(self, x):
        return torch.log(x)


class Forgiving(torch.nn.Module):
    """Has NaN inside, and none in what it returns."""

    def __init__(self):
        super().__init__()
        self.log = Log()

    def forward(self, x):
        return torch.nan_to_num(self.log(x))


def model_of(module, inputs):
    module = module.eval()
    weights = Weights("own", "")
    return Model(
        "net", own.KIND.name, module, ("input",), ("output",), (inputs,), weights, None, (1.0, 1.0)
    )


def stages_of(model, folder):
    plugins = PluginSource(None, Path("plugins"), folder)
    outcome = Conversion(ROW, model, folder, plugins, lambda _: None).run(ONNX)
    return {stage.name: stage for stage in outcome.stages}


def test_nan_in_an_output_fails_and_names_the_layer(tmp_path):
    net = torch.nn.Sequential(torch.nn.Identity(), Log())
    stages = stages_of(model_of(net, torch.tensor([[-1.0, 5.0]])), tmp_path)
    assert stages["torch"].status == FAILED
    assert "computes NaN in PyTorch itself: output" in stages["torch"].reason
    assert "the first layer to give NaN: 1 (Log)" in stages["torch"].reason
    assert stages["torch"].hint
    assert stages["export"].status == stages["onnxruntime"].status == "not-run"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nan_of_torchscript_fails_too(tmp_path):
    net = torch.jit.script(torch.nn.Sequential(torch.nn.Identity(), Log()))
    stages = stages_of(model_of(net, torch.tensor([[-1.0, 5.0]])), tmp_path)
    assert stages["torch"].status == FAILED
    assert "computes NaN in PyTorch itself: output" in stages["torch"].reason


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda net: net[0].weight.fill_(float("nan")), "NaN or infinity in 0.weight"),
        (lambda net: net[0].bias.fill_(float("inf")), "NaN or infinity in 0.bias"),
        (lambda net: net[1].running_var.fill_(-1.0), "1.running_var: 2 of 2 are 0 or below"),
    ],
)
def test_weights_that_cause_nan_are_named(spoil, words, tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        spoil(net)
        net[1].running_mean.copy_(net[0].bias)  # infinity less infinity
    stages = stages_of(model_of(net, torch.ones(1, 2)), tmp_path)
    assert stages["torch"].status == FAILED
    assert words in stages["torch"].reason


def test_nan_removed_by_the_model_is_allowed(tmp_path):
    stages = stages_of(model_of(Forgiving(), torch.tensor([[-1.0, 5.0]])), tmp_path)
    assert {stages[name].status for name in ("torch", "export", "onnxruntime")} == {PASSED}


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_320_fpn", "faster_rcnn"])
def test_a_detector_that_drops_nan_boxes_fails_too(name, tmp_path):
    model = load_model(name, size=64)
    norm = next(each for each in model.module.modules() if hasattr(each, "running_var"))
    norm.running_var[0] = -1.0
    stages = stages_of(model, tmp_path)
    assert stages["torch"].status == FAILED
    assert "running_var: 1 of" in stages["torch"].reason
