"""The detectors of docs/detectors.md: copied from the page, exported, and run in ONNX Runtime."""

import re

import numpy as np
import pytest
import torch
from worked_example import ROOT

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.ops.registry import PLUGIN_TYPES

PAGE = (ROOT / "docs" / "detectors.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w.]+)`\n\n```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = dict(
    re.findall(r"--model (\w+\.py:\w+) --input (1x\S+)$", PAGE, re.MULTILINE)  # of whole lines
)
OPS = {"yolo.py": ["PaddedNMS"], "detr.py": [], "two_stage.py": ["MultiscaleRoIAlign", "PaddedNMS"]}


def loaded(tmp_path, monkeypatch, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    spec, shape = next(one for one in COMMANDS.items() if one[0].startswith(f"{name}:"))
    return load_model(spec, input_shape=shape)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
@pytest.mark.parametrize("name", OPS)
def test_the_file_equals_pytorch(tmp_path, monkeypatch, name, exporter):
    model = loaded(tmp_path, monkeypatch, name)
    file = tmp_path / "model.onnx"
    names = model.input_names, model.output_names
    export_onnx(model.module, model.inputs, *names, exporter, 18, file)
    import onnx

    nodes = [node.op_type for node in onnx.load(str(file)).graph.node]
    assert sorted(one for one in nodes if one in PLUGIN_TYPES) == OPS[name]
    images = torch.randn_like(model.inputs[0])
    with torch.no_grad():
        expected = model.module(images)
    found = run_onnx(file, {model.input_names[0]: images.numpy()}, model.output_names)
    for one, value in zip(model.output_names, expected):
        np.testing.assert_allclose(found[one], value.numpy(), rtol=1e-4, atol=1e-4, err_msg=one)


def test_yolo_finds_what_it_should(tmp_path, monkeypatch):
    module = loaded(tmp_path, monkeypatch, "yolo.py").module
    with torch.no_grad():
        boxes, scores, labels, count = module(torch.randn(1, 3, 256, 256))
    number = int(count[0])
    assert 0 < number <= boxes.shape[1]
    assert (scores[0, :number] > 0.2).all()
    assert (scores[0, :number].diff() <= 0).all()
    assert not boxes[0, number:].any()
    assert not scores[0, number:].any()
    assert not labels[0, number:].any()
