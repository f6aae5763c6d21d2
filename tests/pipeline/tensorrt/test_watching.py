"""Marks for intermediate tensors, and the layers of the engines with and without them."""

import ctypes
import sys
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import ConversionError
from trtyard.pipeline.bisect.engine_search import changed_layers
from trtyard.pipeline.bisect.looking import EngineLooker
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.debug_tensors import KeptTensors, address_in
from trtyard.pipeline.tensorrt.driver import tensors_named
from trtyard.pipeline.tensorrt.driver_10 import Driver10
from trtyard.pipeline.tensorrt.drivers import this_driver
from trtyard.pipeline.tensorrt.engine import build_engine
from trtyard.pipeline.tensorrt.layers import EngineLayer, inspected_layers, layers_in_plan


@pytest.fixture
def network_file(tmp_path):
    """Return a file with a convolution, and two nodes that TensorRT fuses into one kernel."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "weight")
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "weight"], ["wide"], name="conv", pads=[1] * 4),
            helper.make_node("LeakyRelu", ["wide"], ["bent"], name="leaky", alpha=0.1),
            helper.make_node("Resize", ["bent", "", "scales"], ["large"], name="resize"),
            helper.make_node("Softmax", ["large"], ["y"], name="softmax", axis=1),
        ],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16])],
        [weight, scales],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def layers_with(file, names, tmp_path):
    looker = EngineLooker(file, tmp_path / "model.engine", {})
    looker.build(names, tmp_path / "marked.engine")
    return layers_in_plan((tmp_path / "marked.engine").read_bytes())


def test_plan_lists_the_nodes_of_each_layer(network_file, tmp_path):
    build_engine(network_file, tmp_path / "model.engine")
    layers = this_driver().layers_in_plan((tmp_path / "model.engine").read_bytes())
    assert EngineLayer("conv", ("conv",)) in layers
    assert any({"leaky", "resize"} <= set(one.nodes) for one in layers)
    assert {node for one in layers for node in one.nodes} == {"conv", "leaky", "resize", "softmax"}


def test_layers_that_marks_change_are_named(network_file, tmp_path):
    plain = layers_with(network_file, [], tmp_path)
    assert changed_layers(plain, layers_with(network_file, ["wide"], tmp_path)) != ([], [])
    before, after = changed_layers(plain, layers_with(network_file, ["bent"], tmp_path))
    assert any({"leaky", "resize"} <= set(one.nodes) for one in before)
    assert "leaky" in {node for one in after for node in one.nodes}


def test_marked_tensors_are_outputs_of_the_engine(network_file, tmp_path):
    layers_with(network_file, ["bent", "large", "y", "not there"], tmp_path)
    plan = (tmp_path / "marked.engine").read_bytes()
    kernels = plan[plan.index(b"\nmain {") : plan.index(b"\nshape_main")]
    for name in (b'"bent.1"', b'"large.1"'):
        assert name in kernels
    assert b"not there" not in plan


def test_debug_tensor_of_rtx_is_written_by_no_kernel(network_file):
    """Why the driver marks outputs: with debug tensors a listener would wait for nothing."""
    plans = []
    for names in ([], ["bent"]):
        driver = this_driver()
        with driver.log() as log, driver.plugins(None, driver.logger(log)):
            builder = trt.Builder(driver.logger(log))
            network = driver.create_network(builder)
            assert trt.OnnxParser(network, driver.logger(log)).parse(network_file.read_bytes())
            Driver10.watch(driver, network, names)
            assert [network.is_debug_tensor(one) for one in tensors_named(network, names)] == [
                True for _ in names
            ]
            config = builder.create_builder_config()
            driver.configure(config)
            plans.append(driver.plan(builder, network, config))
    plain, marked = plans
    assert b"bent" in marked
    assert layers_in_plan(plain) == layers_in_plan(marked)


def test_build_that_a_mark_breaks_is_a_conversion_error(network_file, tmp_path, monkeypatch):
    monkeypatch.setattr(type(this_driver()), "plan", lambda *_: None)
    with pytest.raises(ConversionError, match="cannot build"):
        layers_with(network_file, ["bent"], tmp_path)


def copied(value, address, on_device):
    assert not on_device
    ctypes.memmove(value.ctypes.data, address, value.nbytes)


def capsule(address):
    make = ctypes.pythonapi.PyCapsule_New
    make.argtypes, make.restype = [ctypes.c_void_p] * 3, ctypes.py_object
    return make(address, None, None)


@pytest.mark.parametrize("given", [int, capsule])
def test_listener_copies_the_value_of_a_debug_tensor(given):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    kept = KeptTensors(copied)
    assert isinstance(kept, trt.IDebugListener)
    assert hasattr(trt.IDebugListener, "process_debug_tensor")  # what it overrides
    address = given(value.ctypes.data)
    assert address_in(address) == value.ctypes.data
    host = trt.TensorLocation.HOST
    kept.process_debug_tensor(address, host, trt.float32, trt.Dims((2, 3)), "x", 0)
    kept.process_debug_tensor(address, host, trt.bfloat16, trt.Dims((2, 3)), "half", 0)
    np.testing.assert_array_equal(kept.values["x"], value)
    assert kept.values["x"] is not value
    assert list(kept.values) == ["x"]


def test_inspector_describes_layers_with_or_without_metadata():
    described = [
        {"Name": "conv + leaky", "Metadata": "[ONNX Layer: conv]\x1e[ONNX Layer: leaky]"},
        "Reformatting",
    ]
    assert inspected_layers(described) == [
        EngineLayer("conv + leaky", ("conv", "leaky")),
        EngineLayer("Reformatting", ()),
    ]
    assert inspected_layers(None) is None


class Runs:
    """In the place of the module that runs engines: notes what each run is given."""

    def __init__(self, gives_debug_tensors):
        self.gives_debug_tensors = gives_debug_tensors
        self.runs = []

    def run_engine(self, file, inputs, library, watched=()):
        self.runs.append((file.read_bytes(), tuple(watched)))
        given = {"y": inputs["x"]}
        if not watched or self.gives_debug_tensors:
            given["bent"] = inputs["x"]
        return SimpleNamespace(outputs=given, layers=[{"Name": "a", "Metadata": ""}])


def looked(file, tmp_path, monkeypatch, runs, names):
    monkeypatch.setitem(sys.modules, "trtyard.pipeline.tensorrt.runner", runs)
    build_engine(file, tmp_path / "model.engine")
    return EngineLooker(file, tmp_path / "model.engine", {"x": np.zeros(1)})(names)


def test_engine_without_marks_is_not_built_again(network_file, tmp_path, monkeypatch):
    runs = Runs(False)
    seen = looked(network_file, tmp_path, monkeypatch, runs, [])
    assert runs.runs == [((tmp_path / "model.engine").read_bytes(), ())]
    assert "conv" in {one.name for one in seen.layers}


@pytest.mark.parametrize(
    ("has_debug_tensors", "gives_them", "watched"),
    [
        (False, False, [()]),
        (True, True, [("bent",)]),
        (True, False, [("bent",), ()]),  # not given: the value is tried as an output
    ],
)
def test_debug_tensors_come_before_outputs(
    network_file, tmp_path, monkeypatch, has_debug_tensors, gives_them, watched
):
    monkeypatch.setattr(type(this_driver()), "has_debug_tensors", has_debug_tensors)
    runs = Runs(gives_them)
    seen = looked(network_file, tmp_path, monkeypatch, runs, ["bent"])
    assert [names for _plan, names in runs.runs] == watched
    assert set(seen.values) == {"y", "bent"}
    assert b"bent" in runs.runs[-1][0]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["model.engine", "model.onnx"]


def test_layers_come_from_the_inspector_if_no_plan_lists_them(network_file, tmp_path, monkeypatch):
    monkeypatch.setattr(type(this_driver()), "layers_in_plan", lambda *_: None)
    seen = looked(network_file, tmp_path, monkeypatch, Runs(False), [])
    assert seen.layers == [EngineLayer("a", ())]
