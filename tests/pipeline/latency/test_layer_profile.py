"""The layers of an engine, from TensorRT's profiler and its inspector."""

import pytest

from trtyard.core.report import LayerProfile
from trtyard.pipeline.latency.engines import profile_of

EMPTY = LayerProfile("fp16", 8)


def layers(**kinds):
    return [{"Name": name, "LayerType": kind} for name, kind in kinds.items()]


def test_slowest_layers_come_first_and_are_ten():
    times = {f"layer{number}": float(number) for number in range(1, 21)}
    found = profile_of(EMPTY, times, layers(layer3="CaskConvolution"))
    assert [one.name for one in found.slowest] == [f"layer{number}" for number in range(20, 10, -1)]
    assert (found.layers, found.milliseconds, found.plugin_share) == (20, 210.0, 0.0)
    assert (found.precision, found.batch, found.reason) == ("fp16", 8, None)


@pytest.mark.parametrize("kind", ["PluginV2", "PluginV2DynamicExt", "PluginV3"])
def test_plugins_have_their_share_of_the_time(kind):
    found = profile_of(EMPTY, {"nms": 1.0, "conv": 3.0}, layers(conv="Convolution", nms=kind))
    assert found.plugin_share == 0.25
    assert [(one.name, one.is_plugin) for one in found.slowest] == [("conv", False), ("nms", True)]


@pytest.mark.parametrize("described", [None, [], ["conv", "nms"]])
def test_share_is_unknown_where_the_inspector_names_no_types(described):
    assert profile_of(EMPTY, {"nms": 1.0}, described).plugin_share is None
