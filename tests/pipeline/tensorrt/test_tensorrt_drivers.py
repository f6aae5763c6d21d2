"""Which driver a release gets, and what of the drivers needs no TensorRT of theirs."""

import numpy as np
import onnx
import pytest
from onnx import helper
from test_tensorrt import all_ops, model_file, tensor

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.pipeline.onnx_functions import DOMAIN, OP_TYPES
from trtyard.pipeline.tensorrt import engine
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_before_10 import library_with_shells
from trtyard.pipeline.tensorrt.driver_rtx import DriverRtx
from trtyard.pipeline.tensorrt.drivers import driver_of, this_driver
from trtyard.pipeline.tensorrt.tensors_by_binding import TensorsByBinding
from trtyard.pipeline.tensorrt.tensors_by_name import TensorsByName


@pytest.mark.parametrize(
    ("version", "is_rtx", "driver"),
    [
        ("7.0.0.11", False, "Driver7"),
        ("8.5.0", False, "Driver8"),
        ("8.6.1", False, "Driver8"),
        ("10.13.2.6", False, "Driver1013"),
        ("10.13.3.9.post1", False, "Driver1013"),
        ("10.14.1.48.post1", False, "Driver1013"),
        ("10.15.1.29", False, "Driver10"),
        ("10.16.1.11", False, "Driver10"),
        ("11.3.0.99", False, "Driver10"),
        ("1.7.1.116", True, "DriverRtx"),
    ],
)
def test_each_release_has_its_driver(version, is_rtx, driver):
    assert type(driver_of(version, is_rtx)).__name__ == driver


@pytest.mark.parametrize("version", ["6.0.1", "7.1.3", "8.4.3", "9.0.0", "10.12.0", "12.0.0"])
def test_unknown_tensorrt_release_is_refused(version):
    with pytest.raises(EnvironmentLacksError, match=version) as failure:
        driver_of(version, is_rtx=False)
    assert "8.5 to below 9.0" in failure.value.hint


def test_this_process_has_tensorrt_for_rtx():
    assert isinstance(this_driver(), DriverRtx)


def test_parser_without_function_support_gets_plain_nodes(tmp_path):
    file = all_ops(tmp_path)
    whole = onnx.load(file)
    assert [one.name for one in whole.functions] == list(OP_TYPES)
    for version in ("7.0.0.11", "8.6.1", "10.13.3.9", "10.14.1.48"):
        model = onnx.ModelProto.FromString(engine._model_for(file, driver_of(version, False)))
        assert list(model.functions) == []
        assert model.graph == whole.graph
    assert engine._model_for(file, driver_of("11.3.0.99", False)) == file.read_bytes()


def test_custom_op_without_plugin_is_an_error(tmp_path):
    file = model_file(
        tmp_path,
        [helper.make_node("PaddedNMS", ["a", "b"], ["c", "d"], domain=DOMAIN)],
        [tensor("a", [1])],
        [tensor("c", [1])],
    )
    engine._check_custom_ops(file, ["PaddedNMS", "EfficientNMS_TRT"])
    for plugins in ([], ["MaskRcnnROIAlign"], ["PaddedNMS", "PaddedNMS"]):
        with pytest.raises(ConversionError, match="PaddedNMS"):
            engine._check_custom_ops(file, plugins)


def test_library_with_shells_is_preferred(tmp_path):
    given = tmp_path / "libtrtyard_plugins.so"
    assert library_with_shells(given) == given
    beside = tmp_path / "libtrtyard_plugins_v2.so"
    beside.touch()
    assert library_with_shells(given) == beside
    own = tmp_path / "my_plugins.so"
    assert library_with_shells(own) == own


class EngineOf7:
    """What TensorRT 7 documents of an engine with two inputs and an output, and its context."""

    names = ("image", "scale", "boxes")
    num_bindings = 3
    num_optimization_profiles = 1

    def __init__(self):
        self.runs = []

    def get_binding_name(self, index):
        return self.names[index]

    def binding_is_input(self, name):
        return self.names.index(name) < 2

    def get_binding_shape(self, name):
        return {"image": (1, 3, 8, 8), "scale": (1,), "boxes": (5, 4)}[name]

    def create_execution_context(self):
        return self

    def execute_async_v2(self, bindings, stream_handle):
        self.runs.append((bindings, stream_handle))
        return True


def test_addresses_follow_the_binding_index():
    fake = EngineOf7()
    tensors = TensorsByBinding(fake)
    assert tensors.names() == ["image", "scale", "boxes"]
    assert [name for name in tensors.names() if tensors.is_input(name)] == ["image", "scale"]
    assert tensors.fits("image", np.zeros((1, 3, 8, 8)).shape)
    assert not tensors.fits("image", (1, 3, 8, 9))
    assert tensors.profile_for({"image": (1, 3, 8, 8), "scale": (1,)}) == 0
    assert tensors.shape("boxes") == (5, 4)
    with pytest.raises(RuntimeError, match="start"):
        tensors.enqueue(7)
    tensors.start()
    for name, address in (("boxes", 300), ("scale", 200), ("image", 100)):
        tensors.bind(name, address)
    assert tensors.enqueue(7)
    assert fake.runs == [([100, 200, 300], 7)]


LIMITS = [((1, 8), (4, 8), (8, 8)), ((16, 8), (16, 8), (32, 8))]


class DynamicEngineOf7:
    """What TensorRT 7 documents of an engine with a batch in two optimization profiles."""

    names = ("image", "boxes")
    num_bindings = 4
    num_optimization_profiles = 2

    def __init__(self):
        self.active_optimization_profile = 0
        self.batch = {}
        self.runs = []

    def get_binding_name(self, index):
        # Those of a further profile have its number behind the name.
        return self.names[index % 2] + ("" if index < 2 else " [profile 1]")

    def binding_is_input(self, name):
        return name.startswith("image")

    def get_binding_shape(self, binding):
        if isinstance(binding, str):
            return {"image": (-1, 8), "boxes": (-1, 4)}[binding]
        return (self.batch[binding - binding % 2], 8 if binding % 2 == 0 else 4)

    def get_profile_shape(self, profile_index, binding):
        assert binding == 2 * profile_index
        return LIMITS[profile_index]

    def create_execution_context(self):
        return self

    def set_binding_shape(self, binding, shape):
        self.batch[binding] = shape[0]
        return True

    def execute_async_v2(self, bindings, stream_handle):
        self.runs.append(bindings)
        return True


@pytest.mark.parametrize(
    ("batch", "profile", "addresses"), [(3, 0, [100, 200, 0, 0]), (20, 1, [0, 0, 100, 200])]
)
def test_bindings_of_the_profile_that_takes_the_input_are_used(batch, profile, addresses):
    fake = DynamicEngineOf7()
    tensors = TensorsByBinding(fake)
    assert tensors.names() == ["image", "boxes"]
    found = tensors.profile_for({"image": (batch, 8)})
    assert found == profile
    tensors.start(found, stream=7)
    assert fake.active_optimization_profile == profile
    assert tensors.fits("image", (batch, 8))
    assert tensors.shape("boxes") == (batch, 4)
    for name, address in (("boxes", 200), ("image", 100)):
        tensors.bind(name, address)
    assert tensors.enqueue(7)
    assert fake.runs == [addresses]


class DynamicEngine:
    """What TensorRT 8.5 and newer document of such an engine."""

    num_io_tensors = 2
    num_optimization_profiles = 2

    def __init__(self):
        self.asked = []

    def get_tensor_name(self, index):
        return ("image", "boxes")[index]

    def get_tensor_mode(self, name):
        return trt.TensorIOMode.INPUT if name == "image" else trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name):
        return (-1, 8)

    def get_tensor_profile_shape(self, name, profile_index):
        return LIMITS[profile_index]

    def create_execution_context(self):
        return self

    def set_optimization_profile_async(self, profile_index, stream_handle):
        self.asked.append((profile_index, stream_handle))
        return True


@pytest.mark.parametrize(("batch", "asked"), [(8, []), (16, [(1, 7)])])
def test_a_context_gets_the_profile_that_takes_the_input(batch, asked):
    fake = DynamicEngine()
    tensors = TensorsByName(fake)
    tensors.start(tensors.profile_for({"image": (batch, 8)}), stream=7)
    assert fake.asked == asked


@pytest.mark.parametrize("shape", [(9, 8), (33, 8), (4, 9), (4,)])
@pytest.mark.parametrize(
    "tensors", [TensorsByName(DynamicEngine()), TensorsByBinding(DynamicEngineOf7())]
)
def test_input_outside_all_profiles_is_refused(tensors, shape):
    with pytest.raises(
        ConversionError, match="no optimization profile of the engine takes image"
    ) as failure:
        tensors.profile_for({"image": shape})
    assert "image [1, 8] to [8, 8]; image [16, 8] to [32, 8]" in failure.value.hint
