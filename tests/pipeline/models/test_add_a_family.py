"""The example of "Add a model family" in docs/models.md: loaded, exported and compared."""

import pytest
from worked_example import blocks_of, copy_pipeline, run_in

BLOCKS = blocks_of("models.md", "Add a model family")
NAMES, MODULE = "trtyard/core/known_models.py", "trtyard/pipeline/models/families/blur.py"

COMPARED = """
from pathlib import Path

import torch
from trtyard.core.known_models import refuse_impossible
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.parity.comparison import compare_outputs

refuse_impossible("blur3", 32)
model = load_model("blur3", size=32)
assert model.inputs[0].shape == (1, 3, 32, 32)
again = load_model("blur3", size=32)
assert model.weights == again.weights
file, names, outputs = Path("model.onnx"), model.input_names, model.output_names
export_onnx(model.module, model.inputs, names, outputs, "dynamo", 18, file)
reference = {outputs[0]: model.module(*model.inputs).numpy()}
found = run_onnx(file, {names[0]: model.inputs[0].numpy()}, outputs)
pair = ("torch", "onnxruntime")
compared = compare_outputs(model.kind, pair, reference, found)
assert not compare_outputs(model.kind, pair, reference, {outputs[0]: found[outputs[0]] + 1}).passed
torch.save(torch.nn.Conv2d(3, 3, 3, groups=3).state_dict(), "weights.pth")
assert load_model("blur3", weights="weights.pth").weights.source == "weights.pth"
print(compared.passed, [row.output for row in compared.parity])
"""

REFUSED = """
import sys

from trtyard.core.errors import UsageError
from trtyard.core.known_models import refuse_impossible
from trtyard.pipeline.models.registry import load_model

for call in (
    lambda: refuse_impossible("blur4"),
    lambda: refuse_impossible("blur3", 4),
    lambda: load_model("blur4"),
    lambda: load_model("blur3", size=4),
    lambda: load_model("blur3", top_n=4),
):
    try:
        call()
    except UsageError as error:
        print(error.message)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("family")
    copy_pipeline(folder)
    assert list(BLOCKS) == [NAMES, MODULE]
    text = (folder / NAMES).read_text(encoding="utf-8")
    assert text.count("KINDS = {\n") == 1
    text = text.replace("KINDS = {\n", "KINDS = {\n" + BLOCKS[NAMES])
    (folder / NAMES).write_text(text, encoding="utf-8")
    (folder / MODULE).write_text(BLOCKS[MODULE], encoding="utf-8")
    return folder


def test_the_new_familys_model_is_loaded_exported_and_compared(folder):
    assert run_in(folder, COMPARED) == "True ['blurred']\n"


def test_the_new_familys_names_sizes_and_options_are_checked(folder):
    lines = run_in(folder, REFUSED).splitlines()
    assert len(lines) == 5
    for line in (lines[0], lines[2]):
        assert "unknown model 'blur4'; similar names: blur3" in line
    for line in (lines[1], lines[3]):
        assert line == "--size 4: blur3 supports 8 to 512 pixels"
    assert lines[4] == "--top-n is not for blur3"
