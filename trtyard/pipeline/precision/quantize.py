"""int8 and fp8: model.onnx with QuantizeLinear and DequantizeLinear around weights and inputs."""

import contextlib
import io
import itertools
import logging
from pathlib import Path
from typing import Any, Iterable, Iterator, List

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_functions import opset_of
from trtyard.pipeline.precision.graph import drop_unused, sort_nodes
from trtyard.pipeline.precision.half import Rewritten

OP_TYPES = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WEIGHT = 1  # which input it is, of each of OP_TYPES

# What TensorRT needs of Q/DQ nodes: zero points of 0, weights in float32 with both nodes, biases
# in float32, and a pair of its own for each input. Outputs get none: a pair between Conv and Relu
# would round what Relu then cuts.
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "QuantizeBias": False,
    "DedicatedQDQPair": True,
    "OpTypesToExcludeOutputQuantization": list(OP_TYPES),
}
_FP8_OPSET = 19  # the first with float8 in QuantizeLinear
_BACKWARD_COMPATIBLE = 18  # from here to 19 ops only gained types and attributes with defaults
_ERRORS_ONLY = 3  # of ONNX Runtime's severities
_LARGEST_INT8, _LARGEST_FP8 = 127.0, 448.0


def quantizable(graph: onnx.GraphProto) -> List[onnx.NodeProto]:
    """Return the nodes of ``OP_TYPES`` with constant weights.

    Products of two activations, as in attention, stay in fp32: a softmax's small values would all
    become 0.
    """
    constants = {tensor.name for tensor in graph.initializer}
    return [
        node
        for node in graph.node
        if node.op_type in OP_TYPES
        and not node.domain
        and len(node.input) > _WEIGHT
        and node.input[_WEIGHT] in constants
        and node.input[0] not in constants
    ]


def to_int8(file: Path, ranges: Any, kept: Iterable[str]) -> Rewritten:
    """Return the model in ``file`` with int8 Q/DQ nodes.

    Args:
        file: the model; every node has a name of its own.
        ranges: of ``calibration.ranges_of``.
        kept: names of nodes to leave in fp32.

    Raises:
        ConversionError: no node of the model can be quantized.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import TensorData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    with quiet_quantizer():
        model = load_model_with_shape_infer(file)
        left_out = set(kept)
        names = [node.name for node in quantizable(model.graph) if node.name not in left_out]
        if not names:
            raise ConversionError(
                "no node can be quantized: there is no Conv, Gemm or MatMul with constant weights",
                "leave out int8 and fp8, or keep fewer nodes with --keep-fp32",
            )
        for node in model.graph.node:
            if node.op_type == "Softmax":  # onnxruntime 1.18 sets their range, and adds none
                unit = TensorData(lowest=np.float32(0), highest=np.float32(1))
                ranges.data.setdefault(node.output[0], unit)
        quantizer = QDQQuantizer(
            model,
            True,  # scales per channel of the weights
            False,  # all 8 bits
            QuantType.QInt8,
            QuantType.QInt8,
            ranges,
            names,
            [],
            list(OP_TYPES),
            dict(_OPTIONS),
        )
        quantizer.quantize_model()
    quantized = quantizer.model.model
    # Only what is used: onnxruntime adds its own domain.
    domains = {node.domain for node in quantized.graph.node} | {
        each.domain for each in quantized.functions
    }
    for entry in list(quantized.opset_import):
        if entry.domain not in domains | {"", "ai.onnx"}:
            quantized.opset_import.remove(entry)
    sort_nodes(quantized.graph)
    drop_unused(quantized.graph)
    return Rewritten(quantized, len(names), [])


def to_fp8(int8: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of an int8 model with float8 (E4M3) in its Q/DQ nodes, of the same ranges.

    onnxruntime's own float8 scales come from standard deviations, not from ranges: they saturate.

    Raises:
        ConversionError: the model's opset is too old.
    """
    opset = opset_of(int8)
    if opset < _BACKWARD_COMPATIBLE:
        raise ConversionError(
            f"fp8 needs opset {_BACKWARD_COMPATIBLE} or newer, the model has {opset}",
            f"--opset {_FP8_OPSET}",
        )
    model = onnx.ModelProto()
    model.CopyFrom(int8)
    imports = [model.opset_import, *(each.opset_import for each in model.functions)]
    for entry in itertools.chain(*imports):
        if entry.domain in ("", "ai.onnx"):
            entry.version = max(entry.version, _FP8_OPSET)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [
        node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    ]
    done = set()
    for node in pairs:
        scale, zero = node.input[1], node.input[2]
        if scale not in done:
            array = numpy_helper.to_array(values[scale])
            scaled = (array * (_LARGEST_INT8 / _LARGEST_FP8)).astype(array.dtype)
            values[scale].CopyFrom(numpy_helper.from_array(scaled, scale))
            done.add(scale)
        if zero not in done:
            shape = list(values[zero].dims)
            number = int(np.prod(shape)) if shape else 1
            values[zero].CopyFrom(
                helper.make_tensor(zero, TensorProto.FLOAT8E4M3FN, shape, bytes(number), raw=True)
            )
            done.add(zero)
    for value in list(model.graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.INT8:
            value.type.tensor_type.elem_type = TensorProto.FLOAT8E4M3FN
    return model


@contextlib.contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Keep what onnxruntime's quantizer prints and logs to itself."""
    import onnxruntime

    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
