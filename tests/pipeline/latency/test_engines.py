"""Engines for timing, with a stand-in for TensorRT's runtime: there is no GPU."""

import contextlib
import sys
import types
from pathlib import Path

import pytest
import torch

from trtyard.pipeline.latency.engines import Engines
from trtyard.pipeline.stages import NotRunError

RUNNER = "trtyard.pipeline.tensorrt.runner"


@pytest.fixture
def told(monkeypatch):
    """Return the list of what the stand-in did."""
    told = []

    @contextlib.contextmanager
    def open_runtime(library):
        told.append(f"open with {library}")

        def load(file):
            told.append(f"load {file}")
            return file.name

        yield load
        told.append("close")

    monkeypatch.setitem(sys.modules, RUNNER, types.SimpleNamespace(open_runtime=open_runtime))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return told


def test_plugins_are_registered_once_for_all_engines(told):
    with contextlib.ExitStack() as stack:
        engines = Engines(Path("plugins.so"), stack)
        assert told == []
        names = [engines.load(Path(name)) for name in ("a.engine", "b.engine", "a.engine")]
        assert names == ["a.engine", "b.engine", "a.engine"]
    assert told == ["open with plugins.so", "load a.engine", "load b.engine", "close"]


def test_a_runtime_that_does_not_open_is_tried_again(monkeypatch, told):
    def refused(_library):
        raise RuntimeError("refused")

    with contextlib.ExitStack() as stack:
        engines = Engines(None, stack)
        with monkeypatch.context() as during:
            during.setattr(sys.modules[RUNNER], "open_runtime", refused)
            with pytest.raises(RuntimeError, match="refused"):
                engines.load(Path("a.engine"))
        assert engines.load(Path("a.engine")) == "a.engine"


def test_torch_without_a_device_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with contextlib.ExitStack() as stack, pytest.raises(NotRunError, match="no CUDA device"):
        Engines(None, stack).load(Path("a.engine"))
