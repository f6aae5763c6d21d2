"""Reports of a container have the user's paths."""

import json
import shlex
from pathlib import Path

import pytest

from trtyard.core.request import ConversionRequest
from trtyard.core.shown_paths import set_names
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.row import Row

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


@pytest.mark.parametrize("folder", ["/home/me", "/home/my nets", "/home/it's"])
def test_repeat_command_quotes_the_users_paths(tmp_path, folder):
    (tmp_path / "nets.py").write_text("from torch import nn\ndef make(): return nn.Linear(3, 2)\n")
    model, out = f"{tmp_path}/nets.py:make", tmp_path / "out"
    set_names({f"{tmp_path}/nets.py": f"{folder}/nets.py", str(out): f"{folder}/out"})
    try:
        request = ConversionRequest(model=model, input="1x3", until="onnx")
        convert(ROW, request, Surroundings("docker", out, PLUGINS, None))
    finally:
        set_names({})
    written = json.loads((out / "report.json").read_text())
    assert written["model"] == f"{folder}/nets.py:make"
    assert shlex.split(written["command"])[:4] == ["./run", "convert", "--model", written["model"]]
