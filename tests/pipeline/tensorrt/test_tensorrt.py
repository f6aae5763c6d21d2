"""Parser, builder and shells of the row's TensorRT. None of it needs a GPU."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import tensorrt_rtx_libs
from onnx import TensorProto, helper

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.known_failures.advice import with_advice
from trtyard.pipeline.interrupts import interrupt
from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION, OP_TYPES, function
from trtyard.pipeline.ops.kernels import ABI_VERSION, KernelLibrary
from trtyard.pipeline.ops.multiscale_roi_align_op.shell import Plugin as MultiscalePlugin
from trtyard.pipeline.ops.padded_nms_op.shell import Plugin as PaddedNmsPlugin
from trtyard.pipeline.ops.roi_align_op.shell import Plugin as RoiAlignPlugin
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_rtx import DriverRtx, plugin_layers_in_plan
from trtyard.pipeline.tensorrt.engine import build_engine
from trtyard.pipeline.tensorrt.shell import KernelPlugin, KernelPluginCreator
from trtyard.pipeline.tensorrt.shells import RegisteredShells

NMS = {"iou_threshold": 0.5, "score_threshold": -1.0, "keep_top_k": 10, "box_offset": 1}
ROI = {
    "output_height": 7,
    "output_width": 5,
    "spatial_scale": 0.0625,
    "sampling_ratio": 2,
    "aligned": 1,
}
PYRAMID = {
    "output_height": 3,
    "output_width": 2,
    "sampling_ratio": 2,
    "aligned": 0,
    "canonical_scale": 224,
    "canonical_level": 4,
    "scale_0": 0.0625,
    "scale_1": 0.03125,
}
PLUGINS = ("PaddedNMS", "MaskRcnnROIAlign", "MultiscaleRoIAlign")


def tensor(name, shape, of_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, of_type, shape)


def model_file(folder, nodes, inputs, outputs, functions=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=list(functions),
        ir_version=10,
    )
    file = Path(folder) / "model.onnx"
    onnx.save(model, file)
    return file


def test_engine_without_a_plugin_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(DriverRtx, "plugins_in_plan", lambda self, plan: ["PaddedNMS"])
    with pytest.raises(ConversionError, match="the engine holds"):
        build_engine(all_ops(tmp_path), tmp_path / "model.engine")
    assert not (tmp_path / "model.engine").exists()


def all_ops(folder, with_functions=True, nms=NMS):
    return model_file(
        folder,
        [
            helper.make_node(
                "PaddedNMS", ["boxes", "scores"], ["indices", "count"], domain=DOMAIN, **nms
            ),
            helper.make_node("Relu", ["features"], ["positive"]),
            helper.make_node(
                "MaskRcnnROIAlign",
                ["positive", "rois", "images"],
                ["pooled"],
                domain=DOMAIN,
                **ROI,
            ),
            helper.make_node(
                "MultiscaleRoIAlign",
                ["positive", *["coarse"] * 4, "rois", "images"],
                ["of_levels"],
                domain=DOMAIN,
                **PYRAMID,
            ),
        ],
        [
            tensor("boxes", [1, 1, 100, 4]),
            tensor("scores", [1, 3, 100]),
            tensor("features", [1, 8, 20, 20]),
            tensor("coarse", [1, 8, 10, 10]),
            tensor("rois", [10, 4]),
            tensor("images", [10], TensorProto.INT32),
        ],
        [
            tensor("indices", [1, 10], TensorProto.INT32),
            tensor("count", [1], TensorProto.INT32),
            tensor("pooled", [10, 8, 7, 5]),
            tensor("of_levels", [10, 8, 3, 2]),
        ],
        [function(op_type, 18) for op_type in OP_TYPES] if with_functions else [],
    )


@pytest.mark.parametrize("with_functions", [True, False])
def test_the_engine_holds_all_plugins(tmp_path, with_functions):
    engine_file = tmp_path / "model.engine"
    facts = build_engine(all_ops(tmp_path, with_functions), engine_file)
    assert facts.plugin_layers == PLUGINS
    assert facts.layers == 4
    assert facts.bytes == engine_file.stat().st_size > 0
    assert sorted(plugin_layers_in_plan(engine_file.read_bytes())) == sorted(OP_TYPES)


def test_an_interrupt_inside_a_callback_is_not_lost(tmp_path, monkeypatch):
    asked = []

    def interrupted(self, _type):
        asked.append(signal.raise_signal(signal.SIGINT))
        return self

    monkeypatch.setattr(KernelPlugin, "get_capability_interface", interrupted)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            build_engine(all_ops(tmp_path), tmp_path / "model.engine")
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked
    assert not (tmp_path / "model.engine").exists()


def with_a_batch(folder):
    """All ops for any batch: [B, 1, 100, 4] boxes, [B, 3, 100] scores and so on."""
    model = onnx.load(all_ops(folder))
    for value in [*model.graph.input, *model.graph.output]:
        if value.name not in ("rois", "images", "pooled", "of_levels"):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def batches(least, usual, most):
    sizes = {"boxes": (1, 100, 4), "scores": (3, 100), "features": (8, 20, 20)}
    sizes["coarse"] = (8, 10, 10)
    return {name: ((least, *rest), (usual, *rest), (most, *rest)) for name, rest in sizes.items()}


@pytest.mark.parametrize("ranges", [[(1, 2, 4)], [(1, 2, 4), (8, 8, 8)]])
def test_an_engine_has_an_optimization_profile_for_each_range(tmp_path, ranges):
    engine_file = tmp_path / "model.engine"
    profiles = [batches(*one) for one in ranges]
    facts = build_engine(with_a_batch(tmp_path), engine_file, profiles=profiles)
    assert facts.profiles == len(ranges)
    assert facts.plugin_layers == PLUGINS
    # A plan holds its plugins once for each profile.
    in_plan = plugin_layers_in_plan(engine_file.read_bytes())
    assert sorted(in_plan) == sorted(OP_TYPES * len(ranges))


def test_a_profile_may_name_an_input_that_the_file_lacks(tmp_path):
    profile = {**batches(1, 2, 4), "unused": ((1,), (2,), (3,))}
    facts = build_engine(with_a_batch(tmp_path), tmp_path / "model.engine", profiles=[profile])
    assert facts.profiles == 1


def test_a_file_with_open_sizes_and_no_profile_is_refused(tmp_path):
    with pytest.raises(ConversionError, match="no optimization profile"):
        build_engine(with_a_batch(tmp_path), tmp_path / "model.engine")


KERNELS = """
#include <stddef.h>
int trtyard_abi_version(void) { return VERSION; }
void trtyard_status_string(void) {}
void trtyard_padded_nms(void) {}
void trtyard_roi_align(void) {}
void trtyard_multiscale_roi_align(void) {}
size_t trtyard_padded_nms_workspace(void) { return BYTES; }
size_t trtyard_roi_align_workspace(void) { return BYTES; }
size_t trtyard_multiscale_roi_align_workspace(void) { return BYTES; }
"""


def kernels_that_want(size, folder):
    library = folder / f"wants_{size}.so"
    command = [
        "cc",
        f"-DBYTES={size}",
        f"-DVERSION={ABI_VERSION}",
        "-shared",
        "-fPIC",
        "-x",
        "c",
        "-",
        "-o",
        library,
    ]
    subprocess.run(command, input=KERNELS, text=True, check=True)
    return library


def test_engine_reserves_the_kernels_workspace(tmp_path):
    file = all_ops(tmp_path)
    plans = []
    for size in (None, 1 << 20, 1 << 20, 1 << 24):
        library = None if size is None else kernels_that_want(size, tmp_path)
        build_engine(file, tmp_path / "model.engine", library)
        plans.append((tmp_path / "model.engine").read_bytes())
    assert plans[1] == plans[2]
    assert len(set(plans)) == 3


def test_network_matches_the_contract(tmp_path):
    log = trt.Logger(trt.Logger.ERROR)
    with RegisteredShells():
        network = trt.Builder(log).create_network(0)
        parser = trt.OnnxParser(network, log)
        parser.set_flag(trt.OnnxParserFlag.ENABLE_PLUGIN_OVERRIDE)
        assert parser.parse(all_ops(tmp_path).read_bytes())
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        assert [(each.name, tuple(each.shape), each.dtype) for each in outputs] == [
            ("indices", (1, 10), trt.DataType.INT32),
            ("count", (1,), trt.DataType.INT32),
            ("pooled", (10, 8, 7, 5), trt.DataType.FLOAT),
            ("of_levels", (10, 8, 3, 2), trt.DataType.FLOAT),
        ]


@pytest.mark.parametrize(
    ("shell", "values"),
    [(PaddedNmsPlugin, NMS), (RoiAlignPlugin, ROI), (MultiscalePlugin, PYRAMID)],
)
def test_a_plugin_made_from_its_own_fields_is_equal(shell, values):
    creator = KernelPluginCreator(shell, None)
    first = creator.create_plugin("first", _fields(shell, values), trt.TensorRTPhase.BUILD)
    again = creator.create_plugin("b", first.get_fields_to_serialize(), trt.TensorRTPhase.RUNTIME)
    assert again.values == pytest.approx({**dict.fromkeys(shell.op.optional, 0), **values})
    assert again.clone().values == again.values
    assert {type(value) for value in again.values.values()} <= {int, float}


_KEPT = []  # the bindings do not keep the numbers of a field alive


def _fields(shell, values):
    kinds = {
        float: (np.float32, trt.PluginFieldType.FLOAT32),
        int: (np.int32, trt.PluginFieldType.INT32),
    }
    given = [(name, kind) for name, kind in shell.op.attributes if name in values]
    numbers = [np.array([values[name]], kinds[kind][0]) for name, kind in given]
    fields = [
        trt.PluginField(name, number, kinds[kind][1])
        for (name, kind), number in zip(given, numbers)
    ]
    _KEPT.append((numbers, fields))
    return trt.PluginFieldCollection(fields)


def test_mode_is_kept_and_defaults_to_average():
    creator = KernelPluginCreator(RoiAlignPlugin, None)
    for given, mode in ((ROI, 0), ({**ROI, "mode": 1}, 1)):
        made = creator.create_plugin("p", _fields(RoiAlignPlugin, given), trt.TensorRTPhase.RUNTIME)
        assert made.values["mode"] == mode


class _Tensor(NamedTuple):
    type: Any
    format: Any

    @property
    def desc(self):
        return self


def test_roi_align_uses_channels_last_if_available():
    plugin = RoiAlignPlugin({}, None)
    kinds, formats = trt.DataType, trt.TensorFormat
    taken = {
        kinds.FLOAT: [formats.LINEAR, formats.HWC],
        kinds.HALF: [formats.LINEAR, formats.HWC8],
        kinds.BF16: [formats.LINEAR, formats.HWC8],
        kinds.INT32: [],
    }
    every = [formats.LINEAR, formats.HWC, formats.HWC8, formats.CHW32, formats.HWC16]
    others = [_Tensor(kinds.FLOAT, formats.LINEAR), _Tensor(kinds.INT32, formats.LINEAR)]
    for kind, wanted in taken.items():
        for given, result in itertools.product(every, repeat=2):
            tensors = [_Tensor(kind, given), *others, _Tensor(kind, result)]
            answers = [plugin.supports_format_combination(i, tensors, 3) for i in range(4)]
            assert answers[:3] == [given in wanted, True, True]
            assert not wanted or answers[3] == (result in wanted)  # of no features there is none
    tensors = [_Tensor(kinds.HALF, formats.LINEAR), *others, _Tensor(kinds.FLOAT, formats.LINEAR)]
    assert not plugin.supports_format_combination(3, tensors, 3)
    tensors[1] = _Tensor(kinds.FLOAT, formats.HWC)
    assert not plugin.supports_format_combination(1, tensors, 3)


def test_all_maps_of_a_pyramid_have_the_format_of_the_first():
    plugin = MultiscalePlugin({}, None)
    kinds, formats = trt.DataType, trt.TensorFormat
    others = [_Tensor(kinds.FLOAT, formats.LINEAR), _Tensor(kinds.INT32, formats.LINEAR)]
    for kind, last in ((kinds.FLOAT, formats.HWC), (kinds.HALF, formats.HWC8)):
        for first, second, result in itertools.product((formats.LINEAR, last), repeat=3):
            maps = [_Tensor(kind, first), *[_Tensor(kind, second)] * 4]
            tensors = [*maps, *others, _Tensor(kind, result)]
            answers = [plugin.supports_format_combination(i, tensors, 7) for i in range(8)]
            assert answers == [True, *[second == first] * 4, True, True, True]
    mixed = [*[_Tensor(kinds.HALF, formats.LINEAR)] * 5, *others]
    mixed[3] = _Tensor(kinds.FLOAT, formats.LINEAR)
    assert not plugin.supports_format_combination(3, mixed, 7)


def test_a_missing_attribute_is_named(tmp_path):
    short = {name: value for name, value in NMS.items() if name != "keep_top_k"}
    with pytest.raises(ConversionError, match="PaddedNMS"):
        build_engine(all_ops(tmp_path, with_functions=False, nms=short), tmp_path / "model.engine")
    assert not (tmp_path / "model.engine").exists()


def test_op_missing_in_the_parser_has_a_hint(tmp_path):
    file = model_file(
        tmp_path,
        [helper.make_node("NonZero", ["image"], ["where"], name="the_culprit")],
        [tensor("image", [4, 5])],
        [tensor("where", [2, None], TensorProto.INT64)],
    )
    with pytest.raises(ConversionError, match="the_culprit") as failure:
        build_engine(file, tmp_path / "model.engine")
    assert "torch.where" in with_advice(failure.value).hint


def test_op_missing_in_the_builder_has_a_hint(tmp_path):
    file = model_file(
        tmp_path,
        [
            helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["kept"], name="culprit"),
        ],
        [tensor("boxes", [1, 10, 4]), tensor("scores", [1, 1, 10])],
        [tensor("kept", [None, 3], TensorProto.INT64)],
    )
    with pytest.raises(ConversionError, match=r"op: NonMaxSuppression \(node culprit\)") as failure:
        build_engine(file, tmp_path / "model.engine")
    assert "padded_nms" in with_advice(failure.value).hint


def test_a_top_k_beyond_the_limit_is_explained(tmp_path):
    k = helper.make_node("Constant", [], ["k"], value_ints=[3841])
    file = model_file(
        tmp_path,
        [k, helper.make_node("TopK", ["scores", "k"], ["values", "indices"], name="culprit")],
        [tensor("scores", [1, 5000])],
        [tensor("values", [1, 3841]), tensor("indices", [1, 3841], TensorProto.INT64)],
    )
    with pytest.raises(ConversionError, match=r"op: TopK \(node culprit\)") as failure:
        build_engine(file, tmp_path / "model.engine")
    assert "split the TopK" in with_advice(failure.value).hint


def test_missing_library_link_raises_an_error(tmp_path):
    (original,) = map(Path, tensorrt_rtx_libs.__path__)
    copy = tmp_path / "tensorrt_rtx_libs"
    copy.mkdir()
    for file in original.iterdir():
        if file.name != "libtensorrt_rtx.so" and file.is_file():
            (copy / file.name).symlink_to(file)
    script = "from trtyard.pipeline.tensorrt.engine import check_library_link as c; c()"
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}", "PATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert EnvironmentLacksError.__name__ in found.stderr
    assert "ln -s libtensorrt_rtx.so.1" in found.stderr


def test_invalid_plugin_library_is_refused(tmp_path):
    wrong = tmp_path / "libtrtyard_plugins.so"
    wrong.write_bytes(b"not a library")
    with pytest.raises(EnvironmentLacksError, match="cannot load"):
        KernelLibrary(wrong)
