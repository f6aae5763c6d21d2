"""Each known failure of TensorRT's parser, builder and runtime, provoked with the row's own."""

import ctypes
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from failing_models import first, model_of, tensor, traceback_of
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from trtyard.core.cuda_device import first_device
from trtyard.core.errors import ConversionError
from trtyard.known_failures.advice import with_advice
from trtyard.known_failures.explanation import explain
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.engine import build_engine
from trtyard.pipeline.tensorrt.logger import KeptLog

node = helper.make_node
INT64, BOOL = TensorProto.INT64, TensorProto.BOOL

HAS_DRIVER = "the error is that of a machine without a driver; this one has a device"


def constant(name, value):
    return numpy_helper.from_array(np.array(value), name)


def build_log(model, prepare=None):
    """Return what TensorRT logs while it parses and builds, as a program of one's own shows it."""
    log = KeptLog()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if parser.parse(model.SerializeToString()):
        config = builder.create_builder_config()
        if prepare:
            prepare(config)
        assert builder.build_serialized_network(network, config) is None
    return "\n".join(log.errors)


def nonzero():
    return model_of(
        [node("NonZero", ["image"], ["where"], name="culprit")],
        [tensor("image", [4, 5])],
        [tensor("where", [2, None], INT64)],
    )


def non_max_suppression():
    return model_of(
        [node("NonMaxSuppression", ["boxes", "scores"], ["kept"], name="culprit")],
        [tensor("boxes", [1, 10, 4]), tensor("scores", [1, 1, 10])],
        [tensor("kept", [None, 3], INT64)],
    )


def own_nms(domain=""):
    return model_of(
        [node("NonMaxSuppression", ["b", "s", "n"], ["kept"], name="culprit", domain=domain)],
        [tensor("b", [10, 4]), tensor("s", [10]), tensor("n", [1])],
        [tensor("kept", [10], TensorProto.INT32)],
        domains=[domain] if domain else [],
    )


def roi_align():
    size = {"output_height": 7, "output_width": 7}
    return model_of(
        [node("RoiAlign", ["x", "rois", "images"], ["y"], name="culprit", **size)],
        [tensor("x", [1, 8, 20, 20]), tensor("rois", [5, 4]), tensor("images", [5], INT64)],
        [tensor("y", [5, 8, 7, 7])],
    )


def branches():
    squeezed = helper.make_graph(
        [node("Squeeze", ["x", "axes"], ["squeezed"])],
        "then",
        [],
        [tensor("squeezed", [5])],
        initializer=[constant("axes", [0])],
    )
    kept = helper.make_graph([node("Identity", ["x"], ["kept"])], "else", [], [tensor("kept", [1])])
    return model_of(
        [node("If", ["c"], ["y"], name="culprit", then_branch=squeezed, else_branch=kept)],
        [tensor("c", [], BOOL), tensor("x", [1, 5])],
        [tensor("y", None)],
    )


def one_op(op, of_type=TensorProto.FLOAT, domain="", outputs=1, **attributes):
    names = [f"y{index}" for index in range(outputs)]
    return model_of(
        [node(op, ["x"], names, name="culprit", domain=domain, **attributes)],
        [tensor("x", [5, 4], of_type)],
        [tensor(name, None, of_type) for name in names],
        domains=[domain] if domain else [],
    )


def capitals():
    return model_of(
        [node("Einsum", ["x", "w"], ["y"], name="culprit", equation="BI,IJ->BJ")],
        [tensor("x", [2, 3]), tensor("w", [3, 4])],
        [tensor("y", [2, 4])],
    )


def attention(of_type=TensorProto.FLOAT):
    names = ["q", "k", "v"]
    return model_of(
        [node("Attention", names, ["y"], name="culprit")],
        [tensor(name, [1, 2, 16, 64], of_type) for name in names],
        [tensor("y", [1, 2, 16, 64], of_type)],
        opset=23,
    )


def computed_axes():
    return model_of(
        [node("ReduceSum", ["x", "axes"], ["y"], name="culprit")],
        [tensor("x", [5, 4]), tensor("axes", [1], INT64)],
        [tensor("y", None)],
    )


def two_types():
    return model_of(
        [node("Mul", ["x", "half"], ["y"], name="culprit")],
        [tensor("x", [5]), tensor("half", [5], TensorProto.FLOAT16)],
        [tensor("y", [5])],
    )


def sized_by_a_value(op):
    """Return a model in which the greatest value of the input is a size."""
    sized = {
        "Slice": node("Slice", ["x", "zero", "end"], ["y"], name="culprit"),
        "TopK": node("TopK", ["x", "end"], ["y", "indices"], name="culprit"),
        "Range": node("Range", ["start", "most", "step"], ["y"], name="culprit"),
    }
    return model_of(
        [
            node("ReduceMax", ["x"], ["most"], keepdims=0),
            node("Cast", ["most"], ["whole"], to=INT64),
            node("Unsqueeze", ["whole", "zero"], ["end"]),
            sized[op],
        ],
        [tensor("x", [9])],
        [tensor("y", [None])],
        constants=[
            constant("zero", [0]),
            constant("start", np.float32(0)),
            constant("step", np.float32(1)),
        ],
    )


def long_topk():
    return model_of(
        [node("TopK", ["x", "k"], ["values", "indices"], name="culprit")],
        [tensor("x", [1, 5000])],
        [tensor("values", [1, 3841]), tensor("indices", [1, 3841], INT64)],
        constants=[constant("k", [3841])],
    )


def dynamic_batch():
    return model_of(
        [node("Relu", ["x"], ["y"])], [tensor("x", [None, 5])], [tensor("y", [None, 5])]
    )


def matmul():
    return model_of(
        [node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", [64, 64])],
        [tensor("y", [64, 64])],
        constants=[constant("w", np.ones((64, 64), np.float32))],
    )


def through_uint8():
    return model_of(
        [
            node("Cast", ["x"], ["bytes"], name="culprit", to=TensorProto.UINT8),
            node("Cast", ["bytes"], ["y"], to=TensorProto.FLOAT),
        ],
        [tensor("x", [5])],
        [tensor("y", [5])],
    )


def smooth_resize():
    return model_of(
        [node("Resize", ["x", "", "s"], ["y"], name="culprit", mode="linear", antialias=1)],
        [tensor("x", [1, 1, 8, 8])],
        [tensor("y", [1, 1, 4, 4])],
        constants=[constant("s", np.array([1, 1, 0.5, 0.5], np.float32))],
    )


def dropout_in_training():
    return model_of(
        [node("Dropout", ["x", "ratio", "training"], ["y"], name="culprit")],
        [tensor("x", [5])],
        [tensor("y", [5])],
        constants=[
            constant("ratio", np.array(0.5, np.float32)),
            constant("training", np.array(True)),
        ],
    )


def scatter(op, places, reduction):
    indices = [4, 3] if op == "ScatterElements" else [4, 1]
    return model_of(
        [node(op, ["x", "i", "u"], ["y"], name="culprit", reduction=reduction)],
        [tensor("x", [places, 3]), tensor("i", indices, INT64), tensor("u", [4, 3])],
        [tensor("y", [places, 3])],
    )


def lstm_of_two_kinds():
    shapes = {"w": (2, 12, 4), "r": (2, 12, 3)}
    one_way = ["Sigmoid", "Tanh", "Tanh"]
    kinds = {"activations": [*one_way, "HardSigmoid", "Tanh", "Tanh"]}
    return model_of(
        [
            node(
                "LSTM",
                ["x", "w", "r"],
                ["y"],
                name="culprit",
                hidden_size=3,
                direction="bidirectional",
                **kinds,
            )
        ],
        [tensor("x", [5, 1, 4])],
        [tensor("y", [5, 2, 1, 3])],
        constants=[constant(name, np.ones(shape, np.float32)) for name, shape in shapes.items()],
    )


def pooling_with_indices():
    return model_of(
        [node("MaxPool", ["x"], ["y", "i"], name="culprit", kernel_shape=[2, 2])],
        [tensor("x", [1, 1, 8, 8])],
        [tensor("y", [1, 1, 7, 7]), tensor("i", [1, 1, 7, 7], INT64)],
    )


def convolution_of_other_weights():
    return model_of(
        [node("Conv", ["x", "w"], ["y"], name="culprit", kernel_shape=[3, 3])],
        [tensor("x", [1, 8, 9, 9])],
        [tensor("y", None)],
        constants=[constant("w", np.ones((4, 16, 3, 3), np.float32))],
    )


def for_turing(config):
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM75, 0)


PARSER = [
    ("nonzero", nonzero, "NonZero"),
    ("nms-of-ones-own", own_nms, "NonMaxSuppression"),
    ("nms-of-ones-own", lambda: own_nms("mine"), "NonMaxSuppression"),
    ("batched-nms-removed", lambda: one_op("BatchedNMS_TRT"), "BatchedNMS_TRT"),
    ("standard-op-unsupported", lambda: one_op("Unique"), "Unique"),
    ("standard-op-unsupported", lambda: one_op("Det"), "Det"),
    ("standard-op-unsupported", lambda: one_op("DFT"), "DFT"),
    ("plugin-not-loaded", lambda: one_op("TRTBatchedNMS", domain="me"), "TRTBatchedNMS"),
    ("plugin-not-loaded", lambda: one_op("DCNv2"), "DCNv2"),
    ("constant-needed", computed_axes, "ReduceSum"),
    ("einsum-capitals", capitals, "Einsum"),
    ("element-types-differ", two_types, "Mul"),
    ("uint8-inside", through_uint8, "Cast"),
    ("resize-antialias", smooth_resize, "Resize"),
    ("dropout-in-training", dropout_in_training, "Dropout"),
    ("weights-of-other-shape", convolution_of_other_weights, "Conv"),
    (
        "scatter-more-than-there-is",
        lambda: scatter("ScatterElements", 2, "none"),
        "ScatterElements",
    ),
    ("scatter-with-reduction", lambda: scatter("ScatterND", 9, "add"), "ScatterND"),
    ("recurrent-activations", lstm_of_two_kinds, "LSTM"),
    ("form-unsupported", pooling_with_indices, "MaxPool"),
]
# The parser's messages for them differ, and so does the node at which it stops.
SIZED = ["Slice", "TopK", "Range"]


@pytest.mark.parametrize(("name", "model", "op"), PARSER)
def test_parser_errors_are_known(name, model, op):
    explanation = first(build_log(model()))
    assert explanation.failure.name == name
    assert explanation.place.op == op
    assert explanation.place.number == 0


@pytest.mark.parametrize("reduction", ["add", "mul", "max"])
def test_scatter_add_is_known_without_a_logged_node(reduction):
    explanation = first(build_log(scatter("ScatterElements", 9, reduction)))
    assert explanation.failure.name == "scatter-with-reduction"
    assert explanation.place.op == "ScatterElements"


def test_missing_external_weights_are_known(written, tmp_path):
    model = matmul()
    convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    file = written(model)
    (tmp_path / "weights.bin").unlink()
    log = KeptLog()
    network = trt.Builder(log).create_network(0)
    assert not trt.OnnxParser(network, log).parse_from_file(str(file))
    assert first("\n".join(log.errors)).failure.name == "weights-file-missing"


def careless_log(data):
    """Return what is logged for a program that does not look at what parse() gave."""
    log = KeptLog()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    trt.OnnxParser(network, log).parse(data)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    return "\n".join(log.errors)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("network-without-outputs", b""),
        ("onnx-file-not-whole", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        ("onnx-file-not-whole", b"\x08\x07\x12\x07pytorch\x1a"),
    ],
)
def test_ignored_parse_failure_is_known(name, data):
    assert first(careless_log(data)).failure.name == name


def test_failed_parse_gives_the_cause_not_the_effect():
    log = careless_log(one_op("Unique").SerializeToString())
    assert "Network must have at least one output" in log
    assert [one.failure.name for one in explain(log)] == ["standard-op-unsupported"]


@pytest.mark.parametrize(
    "use",
    [
        lambda builder: builder.max_workspace_size,
        lambda builder: builder.create_builder_config().max_workspace_size,
        lambda builder: builder.build_engine(None, None),
        lambda builder: trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH,
        lambda builder: trt.BuilderFlag.FP16,
    ],
)
def test_a_script_for_an_older_tensorrt_is_known(use):
    words = traceback_of(lambda: use(trt.Builder(KeptLog())))
    assert first(words).failure.name == "tensorrt-api-gone"


def test_missing_library_is_known():
    words = traceback_of(lambda: ctypes.CDLL("libnvinfer.so.5"))
    assert first(words).failure.name == "library-not-found"


@pytest.mark.parametrize("op", SIZED)
def test_a_size_from_values_is_known(op, written, tmp_path):
    assert first(build_log(sized_by_a_value(op))).failure.name == "size-from-values"
    with pytest.raises(ConversionError) as failure:
        build_engine(written(sized_by_a_value(op)), tmp_path / "model.engine")
    assert "a size (the end of a slice" in with_advice(failure.value).message


@pytest.mark.parametrize(("name", "model", "op"), PARSER)
def test_convert_knows_it_too(name, model, op, written, tmp_path):
    with pytest.raises(ConversionError) as failure:
        build_engine(written(model()), tmp_path / "model.engine")
    error = with_advice(failure.value)
    explanation = first(str(error))
    assert (explanation.failure.name, explanation.place.op) == (name, op)
    assert explanation.place.node == "culprit"
    assert f"why: {explanation.failure.cause}" in error.message
    assert error.hint == explanation.failure.hint


@pytest.mark.parametrize(
    ("name", "model", "prepare"),
    [
        ("element-type-unknown", lambda: one_op("Identity", TensorProto.STRING), None),
        ("branches-differ", branches, None),
        ("topk-limit", long_topk, None),
        ("no-runner", non_max_suppression, None),
        ("attention-without-kernel", attention, None),
        ("no-profile", dynamic_batch, None),
        ("turing-fp32-matmul", matmul, for_turing),
    ],
)
def test_builder_errors_are_known(name, model, prepare):
    assert first(build_log(model(), prepare)).failure.name == name


def test_convert_decomposes_attention(written, tmp_path):
    assert build_engine(written(attention()), tmp_path / "model.engine").layers > 0


def test_convert_names_the_op_without_a_runner(written, tmp_path):
    with pytest.raises(ConversionError) as failure:
        build_engine(written(non_max_suppression()), tmp_path / "model.engine")
    explanation = first(failure.value.message)
    assert explanation.failure.name == "non-max-suppression"
    assert (explanation.place.op, explanation.place.node) == ("NonMaxSuppression", "culprit")
    error = with_advice(failure.value)
    assert "padded_nms" in error.hint
    assert "supported by: TensorRT 8.0 and newer, not TensorRT for RTX" in error.message


@pytest.mark.skipif(first_device() is not None, reason=HAS_DRIVER)
def test_roi_align_without_a_driver_is_known():
    explanation = first(build_log(roi_align()))
    assert explanation.failure.name == "roi-align-without-driver"
    assert explanation.place.op == "RoiAlign"


def test_missing_plugin_is_listed_with_loaded_ones(written, tmp_path):
    with pytest.raises(ConversionError) as failure:
        build_engine(written(one_op("PadedNMS", domain="me")), tmp_path / "model.engine")
    assert "registered plugins:" in failure.value.message
    assert "PaddedNMS 1" in failure.value.message


def load_log(plan):
    log = KeptLog()
    assert trt.Runtime(log).deserialize_cuda_engine(plan) is None
    return "\n".join(log.errors)


def plan():
    log = KeptLog()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    trt.OnnxParser(network, log).parse(matmul().SerializeToString())
    return bytes(builder.build_serialized_network(network, builder.create_builder_config()))


def run_alone(script, first_on_path=None):
    """Run a script in a process of its own, which sees this module as ``test``."""
    folder = Path(__file__).parent
    paths = [first_on_path, folder, folder.parents[2]]
    return subprocess.run(
        [sys.executable, "-c", f"import test_tensorrt_failures as test\n{script}"],
        env={"PYTHONPATH": ":".join(str(path) for path in paths if path), "PATH": ""},
        capture_output=True,
        text=True,
    )


# The runtime writes into the log of the first builder of the process, so each has its own.
@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("engine-of-other-release", "print(test.load_log(b'x' * 1000))"),
        ("engine-cut-short", "print(test.load_log(test.plan()[:1000]))"),
        ("engine-cut-short", "print(test.load_log(b''))"),
        ("engine-is-none", "print(test.none_log())"),
        ("driver-missing-or-old", "print(test.load_log(test.plan()))"),
    ],
)
def test_runtime_errors_are_known(name, script):
    if name == "driver-missing-or-old" and first_device() is not None:
        pytest.skip(HAS_DRIVER)
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert first(done.stdout).failure.name == name


def none_log():
    engine = trt.Runtime(KeptLog()).deserialize_cuda_engine(b"")
    try:
        engine.create_execution_context()
    except AttributeError:
        return traceback.format_exc()
    raise AssertionError("an engine was made of nothing")


def test_a_plugin_that_cannot_be_made_is_known():
    done = run_alone(
        "from trtyard.pipeline.tensorrt.shells import RegisteredShells\n"
        "with RegisteredShells():\n"
        "    print(test.build_log(test.one_op('PaddedNMS', domain='me')))\n"
    )
    assert "keep_top_k" in done.stderr  # the creator's own words
    explanation = first(done.stdout + done.stderr)
    assert explanation.failure.name == "plugin-not-made"
    assert explanation.place.op == "PaddedNMS"


def test_abort_from_a_missing_link_is_known(tmp_path):
    import tensorrt_rtx_bindings
    import tensorrt_rtx_libs

    for package in (tensorrt_rtx_bindings, tensorrt_rtx_libs):
        (original,) = map(Path, package.__path__)
        copy = tmp_path / package.__name__
        copy.mkdir()
        for file in original.iterdir():
            if file.is_file() and not file.is_symlink():
                shutil.copy(file, copy)
    done = run_alone(
        "from pathlib import Path\n"
        "from trtyard.pipeline.tensorrt import engine\n"
        "engine.check_library_link = lambda: None\n"
        "from test_tensorrt import all_ops\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "engine.build_engine(all_ops(folder), folder / 'model.engine')\n",
        first_on_path=f"{tmp_path}:{Path(__file__).parents[1] / 'tensorrt'}",
    )
    assert done.returncode == -signal.SIGABRT, done.stdout + done.stderr
    assert first(done.stderr).failure.name == "library-link-missing"
