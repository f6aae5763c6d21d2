"""A model's packages in Docker: one more layer on the row's image, without a network."""

import json
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, run_task

sys.path.append(str(Path(__file__).resolve().parents[1] / "host"))

from loopback_index import served, variables
from tiny_wheels import make_wheel

NETS = """
# /// script
# dependencies = ["tiny-layers"]
# ///
import socket

from tiny_layers import NAME
from torch import nn


def make():
    try:
        socket.create_connection(("127.0.0.1", PORT), 1)
        raise RuntimeError("there is a network")
    except OSError:
        return nn.Sequential(nn.Linear(3, 2))
"""


@pytest.fixture
def index(tmp_path, monkeypatch):
    store = tmp_path / "store"
    store.mkdir()
    make_wheel(store, "tiny-layers", "1.5", requires=["torch"])
    with served(store) as found:
        for name, value in variables(found, tmp_path).items():
            monkeypatch.setitem(ENVIRONMENT, name, value)
        # uv asks for the metadata of every package that it resolves, also of the row's.
        make_wheel(store, "torch", "2.13.0")
        yield found


def test_packages_are_one_more_layer_and_are_reused(engine, image, tree, index, tmp_path):
    port = index.address.split(":")[2].split("/")[0]
    (tmp_path / "nets.py").write_text(NETS.replace("PORT", port))
    out = tmp_path / "out"
    words = ["convert", "--model", f"{tmp_path}/nets.py:make", "--input", "1x3", "--in", "docker"]
    words += ["--until", "onnx", "--out", str(out)]
    done = run_task(*words, root=tree)
    assert done.returncode == 0, done.stderr
    assert "has a '# /// script' block, which is used" in done.stderr
    report = json.loads((out / "report.json").read_text())
    (package,) = report["packages"]["installed"]
    assert (package["name"], package["version"]) == ("tiny-layers", "1.5")
    names = [tag for one in engine.images.list("trtyard/rtx-1.7-with") for tag in one.tags]
    name = next(one for one in names if f"building {one}:" in done.stderr)
    try:
        made = engine.images.get(name)
        below = engine.images.get(image).attrs["RootFS"]["Layers"]
        assert made.attrs["RootFS"]["Layers"][:-1] == below
        asked = len(index.logins)
        again = run_task(*words, root=tree)
        assert again.returncode == 0, again.stderr
        assert (len(index.logins), "building" in again.stderr) == (asked, False)
        assert engine.images.get(name).id == made.id
    finally:
        engine.images.remove(name)
