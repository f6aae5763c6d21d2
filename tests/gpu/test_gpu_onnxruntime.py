"""The custom ops in ONNX Runtime's CUDA provider, against the torch ops with the same kernels."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from gpu_kernels import Kernels  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from trtyard.pipeline import ops  # noqa: E402
from trtyard.pipeline.ops.contract import DOMAIN  # noqa: E402

PROVIDER = "CUDAExecutionProvider"
SOURCES = Path(__file__).parents[2] / "plugins"
FLOAT, INT32 = TensorProto.FLOAT, TensorProto.INT32
TYPES = {FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16}
TYPES[TensorProto.BFLOAT16] = torch.bfloat16
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "keep_top_k": 100, "box_offset": 0}
POOLING = {"output_height": 7, "output_width": 7, "spatial_scale": 0.0625}
POOLING.update({"sampling_ratio": 2, "aligned": 0, "mode": 0})


@pytest.fixture(scope="module")
def library(onnxruntime_library: Path) -> Path:
    return onnxruntime_library


@pytest.fixture(autouse=True)
def with_kernels(kernels: Kernels):
    ops.use_kernels(kernels.path)
    yield
    ops.use_kernels(None)


def session_of(library, op_type, inputs, converted, outputs, element_type, **attributes):
    """Return a session with one node; the first ``converted`` inputs are in ``element_type``."""
    names = [f"input_{index}" for index in range(len(inputs))]
    given = [f"typed_{name}" if index < converted else name for index, name in enumerate(names)]
    nodes = [
        helper.make_node("Cast", [name], [typed], to=element_type)
        for name, typed in zip(names[:converted], given)
    ]
    raw = [f"raw_{index}" for index in range(len(outputs))]
    nodes.append(helper.make_node(op_type, given, raw, domain=DOMAIN, **attributes))
    nodes += [
        helper.make_node("Cast", [name], [f"output_{index}"], to=outputs[index])
        for index, name in enumerate(raw)
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "one_node",
        [
            value(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
            for name, each in zip(names, inputs)
        ],
        [value(f"output_{index}", of_type, None) for index, of_type in enumerate(outputs)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.register_custom_ops_library(str(library))
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])


def run(session, inputs):
    return session.run(None, {one.name: value for one, value in zip(session.get_inputs(), inputs)})


def nms_inputs(batch, classes, boxes, seed=0):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 200, (batch, 1, boxes, 2))
    corners = np.concatenate([corner, corner + random.uniform(1, 80, corner.shape)], -1)
    return np.float32(corners), np.float32(random.random((batch, classes, boxes)))


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize("sizes", [(1, 1, 500), (2, 80, 300), (1, 1, 5000), (0, 3, 10), (1, 3, 0)])
def test_padded_nms_equals_the_torch_op(library, sizes, element_type) -> None:
    inputs = nms_inputs(*sizes)
    session = session_of(library, "PaddedNMS", inputs, 2, [INT32, INT32], element_type, **NMS)
    typed = [torch.from_numpy(each).cuda().to(TYPES[element_type]) for each in inputs]
    expected = [each.cpu().numpy() for each in ops.padded_nms(*typed, **NMS)]
    for _ in range(2):
        for got, wanted in zip(run(session, inputs), expected):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("side", [20, 300])
def test_roi_align_equals_the_torch_op_bit_for_bit(
    library, side, ratio, mode, element_type
) -> None:
    random = np.random.default_rng(side)
    features = np.float32(random.standard_normal((2, 16, side, side)))
    corner = random.uniform(-20, 16 * side, (60, 2))
    rois = np.float32(np.concatenate([corner, corner + random.uniform(1, 200, corner.shape)], 1))
    images = np.int32(random.integers(-1, 2, len(rois)))
    attributes = {**POOLING, "sampling_ratio": ratio, "mode": mode}
    inputs = (features, rois, images)
    session = session_of(
        library, "MaskRcnnROIAlign", inputs, 1, [FLOAT], element_type, **attributes
    )
    typed = torch.from_numpy(features).cuda().to(TYPES[element_type])
    others = [torch.from_numpy(each).cuda() for each in (rois, images)]
    expected = ops.roi_align(typed, *others, *attributes.values()).float().cpu().numpy()
    for _ in range(2):
        np.testing.assert_array_equal(run(session, inputs)[0], expected)


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize("levels", [2, 4])
def test_multiscale_roi_align_equals_the_torch_op_bit_for_bit(
    library, levels, element_type
) -> None:
    random = np.random.default_rng(levels)
    scales = [2.0**-level for level in range(2, 2 + levels)]
    maps = [
        np.float32(random.standard_normal((2, 8, int(256 * scale), int(320 * scale))))
        for scale in scales
    ]
    side = 2 ** random.uniform(3, 10, (60, 1))
    corner = random.uniform(-20, 250, (60, 2))
    rois = np.float32(np.concatenate([corner, corner + side * random.uniform(0.5, 2, (60, 2))], 1))
    images = np.int32(random.integers(-1, 2, len(rois)))
    attributes = {f"scale_{level}": scale for level, scale in enumerate(scales)}
    attributes.update({"output_height": 7, "output_width": 7, "sampling_ratio": 2, "aligned": 0})
    attributes.update({"canonical_scale": 224, "canonical_level": 4})
    inputs = (*maps, *[maps[-1]] * (5 - levels), rois, images)
    session = session_of(
        library, "MultiscaleRoIAlign", inputs, 5, [FLOAT], element_type, **attributes
    )
    typed = [torch.from_numpy(each).cuda().to(TYPES[element_type]) for each in maps]
    others = [torch.from_numpy(each).cuda() for each in (rois, images)]
    expected = ops.multiscale_roi_align(typed, *others, 7, scales, sampling_ratio=2)
    np.testing.assert_array_equal(run(session, inputs)[0], expected.float().cpu().numpy())


def test_a_cuda_graph_of_the_session_replays_the_ops(library) -> None:
    inputs = nms_inputs(1, 20, 400)
    arguments = (library, "PaddedNMS", inputs, 2, [INT32, INT32], FLOAT)
    session = session_of(*arguments, **NMS)
    expected = run(session, inputs)
    session.set_providers([PROVIDER], [{"enable_cuda_graph": "1"}])
    binding = session.io_binding()
    given = [onnxruntime.OrtValue.ortvalue_from_numpy(each, "cuda", 0) for each in inputs]
    for one, value in zip(session.get_inputs(), given):
        binding.bind_ortvalue_input(one.name, value)
    kept = [
        onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(each), "cuda", 0)
        for each in expected
    ]
    for one, value in zip(session.get_outputs(), kept):
        binding.bind_ortvalue_output(one.name, value)
    for seed in (0, 1, 2):  # the first run captures, the others replay with new inputs
        fresh = nms_inputs(1, 20, 400, seed)
        for value, each in zip(given, fresh):
            value.update_inplace(each)
        session.run_with_iobinding(binding)
        typed = [torch.from_numpy(each).cuda() for each in fresh]
        for got, wanted in zip(kept, ops.padded_nms(*typed, **NMS)):
            np.testing.assert_array_equal(got.numpy(), wanted.cpu().numpy())
