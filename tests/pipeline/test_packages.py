"""Packages of a model inside the row: on the path, in the report, and refused if not installed."""

import json
import sys
from pathlib import Path

import pytest

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.packages import add_packages
from trtyard.core.report import Package, Packages
from trtyard.core.request import ConversionRequest
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.row import Row

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
FACTS = {
    "asked": ["layers==1.5"],
    "installed": [{"name": "layers", "version": "1.5", "sha256": "0" * 64}],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    made = tmp_path / "with"
    (made / "site-packages").mkdir(parents=True)
    (made / "packages.json").write_text(json.dumps(FACTS))
    return made


def test_packages_come_after_those_of_the_row(folder):
    (folder / "site-packages" / "numpy.py").write_text("raise RuntimeError\n")
    found = add_packages(folder)
    assert found == Packages(("layers==1.5",), (Package("layers", "1.5", "0" * 64),))
    assert sys.path[-1] == str(folder / "site-packages")


@pytest.mark.parametrize("text", ["", "[]", '{"asked": []}', '{"asked": [], "installed": [1]}'])
def test_broken_folder_is_named(folder, text):
    (folder / "packages.json").write_text(text)
    with pytest.raises(EnvironmentLacksError, match="does not hold the packages of --with"):
        add_packages(folder)


def test_report_has_the_packages_and_its_command_repeats_them(folder, tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text("from torch import nn\ndef make(): return nn.Linear(3, 2)\n")
    monkeypatch.chdir(tmp_path)
    asked = ["layers==1.5", "my requirements.txt"]
    request = ConversionRequest(model="nets.py:make", input="1x3", until="onnx", packages=asked)
    where = Surroundings("host", tmp_path / "out", PLUGINS, None, packages=add_packages(folder))
    report = convert(ROW, request, where)
    assert report.packages.asked == ("layers==1.5",)
    assert "--with layers==1.5 --with 'my requirements.txt'" in report.command
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["packages"] == FACTS


def test_packages_that_nobody_installed_are_refused(tmp_path):
    request = ConversionRequest(model="alexnet", packages=["layers"])
    with pytest.raises(UsageError, match="--with layers: this environment cannot install packages"):
        convert(ROW, request, Surroundings("host", tmp_path / "out", PLUGINS, None))
