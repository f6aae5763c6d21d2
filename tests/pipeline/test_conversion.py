"""What a conversion does not try, and what it gives to those that it asks."""

from pathlib import Path

import pytest
import torch

from trtyard.core import cuda_device as device
from trtyard.pipeline import conversion as conversion_module
from trtyard.pipeline.conversion import Conversion, PluginSource
from trtyard.pipeline.export.exporter import Exported
from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.row import Row
from trtyard.pipeline.stages import NotRunError
from trtyard.pipeline.tensorrt import engine

ROW = Row("8.6", "8.6.1.6", "full", "torchscript", 17, "12.1", ("89",), ("8.9",))
RTX = ROW._replace(name="rtx-1.7", tensorrt="1.7.1.116", flavour="rtx")


def conversion_of(row):
    weights = Weights("none", "")
    model = Model("net", "own", torch.nn.Module(), (), (), (), weights, None, (1.0, 1.0))
    plugins = PluginSource(None, Path("plugins"), Path("cache"))
    return Conversion(row, model, Path("out"), plugins, lambda _: None)


@pytest.mark.parametrize("tensorrt", ["7.0.0.11", "8.6.1.6", "10.16.1.11", "11.3.0.99"])
def test_tensorrt_builds_nothing_without_a_supported_gpu(tensorrt, monkeypatch):
    conversion = conversion_of(ROW._replace(tensorrt=tensorrt))
    monkeypatch.setattr(device, "first_device", lambda: None)
    with pytest.raises(NotRunError, match=f"{tensorrt} builds .*no CUDA device"):
        conversion.build()
    monkeypatch.setattr(device, "first_device", lambda: device.Device("Old", "3.5"))
    with pytest.raises(NotRunError, match="Old has compute capability"):
        conversion.build()


def test_engine_is_built_with_its_run_time_kernels(monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "build_engine", lambda *arguments: asked.append(arguments))
    conversion = conversion_of(RTX)
    conversion._library = Path("libtrtyard_plugins.so")
    conversion.build()
    conversion.build("model.int8.onnx", "int8", ["head"])
    library = conversion._library
    assert asked == [
        (Path("out/model.onnx"), Path("out/model.engine"), library, [], "fp32", ()),
        (Path("out/model.int8.onnx"), Path("out/model.int8.engine"), library, [], "int8", ["head"]),
    ]


def test_engine_without_its_kernels_says_it_cannot_run(monkeypatch):
    monkeypatch.setattr(engine, "build_engine", lambda *_arguments: None)
    conversion = conversion_of(RTX)
    conversion._exported = Exported(1, 18, ("PaddedNMS",), (), ())
    conversion._book.attempt("engine", "build", conversion.build)
    (stage,) = conversion._book.stages
    assert "cannot run" in stage.note


def test_input_missing_in_the_file_is_named(monkeypatch):
    exported = Exported(1, 18, (), (), (), None, ("input_1",))
    monkeypatch.setattr(conversion_module, "export_onnx", lambda *_given, **_more: exported)
    conversion = conversion_of(RTX)
    conversion._book.attempt("export", "write", conversion._export)
    (stage,) = conversion._book.stages
    assert stage.note == "leaves out input_1, on which no output depends in the trace"
