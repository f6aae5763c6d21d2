"""What the drivers of releases that are not here are told of a precision."""

from types import SimpleNamespace

import pytest

from trtyard.pipeline.tensorrt import driver_7, driver_8, driver_10_13
from trtyard.pipeline.tensorrt.drivers import driver_of


class Config:
    def __init__(self):
        self.flags = []

    def set_flag(self, flag):
        self.flags.append(flag)

    def clear_flag(self, flag):
        self.flags.append(f"not {flag}")


class Names:
    """Has every attribute: its own name."""

    def __getattr__(self, name):
        return name


class Builder:
    def create_network(self, flags):
        return flags


@pytest.fixture
def bindings(monkeypatch):
    stand_in = SimpleNamespace(
        BuilderFlag=Names(),
        ProfilingVerbosity=Names(),
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1, EXPLICIT_BATCH=0),
        float32="float32",
    )
    for module in (driver_7, driver_8, driver_10_13):
        monkeypatch.setattr(module, "trt", stand_in)
    monkeypatch.setattr("trtyard.pipeline.tensorrt.driver_named.trt", stand_in)
    monkeypatch.setattr("trtyard.pipeline.tensorrt.driver_before_10.trt", stand_in)


def flags(release, precision):
    config = Config()
    driver_of(release, is_rtx=False).configure(config, precision)
    return config.flags


@pytest.mark.usefixtures("bindings")
def test_flags_allow_a_precision_before_10():
    assert flags("8.6.1", "fp32") == ["not TF32"]
    assert flags("8.6.1", "fp16") == ["not TF32", "FP16", "PREFER_PRECISION_CONSTRAINTS"]
    assert flags("8.6.1", "int8") == ["not TF32", "INT8"]
    assert flags("7.0.0.11", "fp32") == []
    assert flags("7.0.0.11", "fp16") == ["FP16"]
    for precision in ("fp16", "bf16", "int8", "fp8"):
        assert flags("10.16.1.11", precision) == ["not TF32"]


@pytest.mark.usefixtures("bindings")
@pytest.mark.parametrize("release", ["10.13.3.9", "10.16.1.11", "11.3.0.99"])
def test_the_files_types_hold_from_10_on(release):
    driver = driver_of(release, is_rtx=False)
    assert driver.create_network(Builder(), "fp32") == 0
    assert driver.create_network(Builder(), "int8") == 1 << 1


@pytest.mark.usefixtures("bindings")
def test_layers_of_kept_nodes_are_constrained_to_fp32_in_8():
    layers = [SimpleNamespace(name=name, precision=None) for name in ("conv", "softmax")]
    network = SimpleNamespace(num_layers=2, get_layer=lambda index: layers[index])
    driver_of("8.6.1", is_rtx=False).prepare(network, ["softmax"])
    assert [layer.precision for layer in layers] == [None, "float32"]
