"""Which nodes stay in fp32, and why."""

from typing import Dict, Iterable, List, Mapping, Set

import onnx

from trtyard.pipeline.ops.contract import DOMAIN
from trtyard.pipeline.precision.graph import producers

NORM = "norm"
SOFTMAX = "softmax"
COORDINATES = "box decoding and selection"
CUSTOM_OP = "custom op"
NO_KERNEL = "no float16 kernel"
NO_BFLOAT16_KERNEL = "no bfloat16 kernel"
QUANTIZED = "quantized already"
ASKED_FOR = "--keep-fp32"

_NORMS = (
    "LayerNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
)
_SOFTMAXES = ("Softmax", "LogSoftmax", "ReduceLogSumExp", "ReduceLogSum", "ReduceSumExp")
# TensorRT for RTX 1.7 cannot build it in bfloat16: "Could not infer output types".
_NOT_IN_BFLOAT16 = ("ConvTranspose",)
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear")

# Boxes and scores: these inputs of these ops decide which rows are kept and where they are.
_DECIDING = {
    "PaddedNMS": (0, 1),
    "MaskRcnnROIAlign": (1, 2),
    "MultiscaleRoIAlign": (5, 6),
    "NonMaxSuppression": (0, 1),
    "RoiAlign": (1, 2),
    "TopK": (0,),
}
# Here boxes and scores begin: what comes before are features.
_FEATURE_OPS = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN"),
    *("RoiAlign", "MaskRcnnROIAlign", "MultiscaleRoIAlign"),
)
# The first input's values in another place or type.
_MOVING = ("Identity", "Transpose", "Cast", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear")
# A variance's way from its mean of squares to the division by its root.
_VARIANCE_OPS = ("Add", "Sub", "Mul", "Pow", "ReduceMean", "Cast")
_ROOTS = ("Sqrt",)
_DIVISIONS = ("Div", "Reciprocal", "Mul")
_LONGEST_VARIANCE = 8  # nodes


def kept_nodes(
    graph: onnx.GraphProto, is_detector: bool, no_kernel: Iterable[str] = ()
) -> Dict[str, str]:
    """Return the names of the nodes that stay in fp32, with the reason for each.

    Norms and softmax sum squares or exponentials, which leave float16's range. Boxes and scores
    decide what is kept: a coordinate of 800 pixels has half a pixel of rounding in float16. The
    plugins take coordinates too.

    Args:
        graph: every node has a name of its own.
        is_detector: the outputs are boxes, scores and labels.
        no_kernel: op types that the runtimes lack in float16.
    """
    lacking = set(no_kernel)
    kept: Dict[str, str] = {}
    for node in graph.node:
        if node.domain == DOMAIN:
            kept[node.name] = CUSTOM_OP
        elif node.op_type in _NORMS:
            kept[node.name] = NORM
        elif node.op_type in _SOFTMAXES:
            kept[node.name] = SOFTMAX
        elif node.op_type in _QUANTIZED:
            kept[node.name] = QUANTIZED
        elif node.op_type in _DECIDING:
            kept[node.name] = COORDINATES
        elif node.op_type in lacking:
            kept[node.name] = NO_KERNEL
    for name in _decomposed_norms(graph):
        kept.setdefault(name, NORM)
    for name in _before_decisions(graph, is_detector):
        kept.setdefault(name, COORDINATES)
    return kept


def kept_in_bfloat16(graph: onnx.GraphProto, kept: Mapping[str, str]) -> Dict[str, str]:
    """Return ``kept`` and the nodes that stay in fp32 because of bf16 alone."""
    lacking = [node.name for node in graph.node if node.op_type in _NOT_IN_BFLOAT16]
    return {**dict.fromkeys(lacking, NO_BFLOAT16_KERNEL), **kept}


def _before_decisions(graph: onnx.GraphProto, is_detector: bool) -> Set[str]:
    """Return the nodes between the last features and what selects boxes."""
    made_by = producers(graph)
    constants = {tensor.name for tensor in graph.initializer}
    tensors: List[str] = [value.name for value in graph.output] if is_detector else []
    for node in graph.node:
        indices = _DECIDING.get(node.op_type, ())
        tensors += [node.input[index] for index in indices if index < len(node.input)]
    found: Set[str] = set()
    while tensors:
        node = made_by.get(tensors.pop())
        if node is None or node.name in found:
            continue
        # Masks are pasted, and heatmaps enlarged, by products of coordinates.
        is_geometry = (
            is_detector and node.op_type == "MatMul" and not _has_weights(node, made_by, constants)
        )
        if node.op_type in _FEATURE_OPS and not is_geometry:
            continue
        found.add(node.name)
        tensors += node.input
    return found


def _has_weights(
    node: onnx.NodeProto, made_by: Dict[str, onnx.NodeProto], constants: Set[str]
) -> bool:
    """Return whether an input of the node is a constant, also behind ops that move its values."""
    for name in node.input:
        while name in made_by and made_by[name].op_type in _MOVING:
            name = made_by[name].input[0]
        if name in constants or (name in made_by and made_by[name].op_type == "Constant"):
            return True
    return False


def _decomposed_norms(graph: onnx.GraphProto) -> Set[str]:
    """Return the nodes of norms that older exporters write in single ops.

    These are Sqrt over a ReduceMean, what leads from that mean's square to it, and the division.
    """
    made_by = producers(graph)
    readers: Dict[str, List[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: Set[str] = set()
    for root in graph.node:
        if root.op_type not in _ROOTS:
            continue
        variance = _variance_of(root, made_by)
        if not any(node.op_type == "ReduceMean" for node in variance):
            continue
        ends = [node for node in readers.get(root.output[0], []) if node.op_type in _DIVISIONS]
        ends += [
            node
            for end in ends
            if end.op_type == "Reciprocal"
            for node in readers.get(end.output[0], [])
            if node.op_type in _DIVISIONS
        ]
        found.update(node.name for node in [root, *variance, *ends])
    return found


def _variance_of(root: onnx.NodeProto, made_by: Dict[str, onnx.NodeProto]) -> List[onnx.NodeProto]:
    found: List[onnx.NodeProto] = []
    tensors = list(root.input)
    while tensors and len(found) < _LONGEST_VARIANCE:
        node = made_by.get(tensors.pop(0))
        if node is None or node.op_type not in _VARIANCE_OPS or node in found:
            continue
        found.append(node)
        # The first mean's input is the norm's: two of them are the mean and the variance.
        if sum(each.op_type == "ReduceMean" for each in found) < 2 or node.op_type != "ReduceMean":
            tensors += node.input
    return found
