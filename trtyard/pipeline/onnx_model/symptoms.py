"""What can be seen in an ONNX file of failures that raise no error."""

from typing import Iterator, List, Set

import onnx

from trtyard.core.report import Symptom
from trtyard.pipeline.onnx_model.origin import describe

# The opset that gave RoiAlign its coordinate_transformation_mode.
_ROI_ALIGN_MODES = 16


def model_symptoms(model: onnx.ModelProto) -> List[Symptom]:
    """Return faults in ``model`` that no runtime reports."""
    return [*_frozen(model.graph), *_roi_align(model), *_own_nms(model)]


def holds_float16(graph: onnx.GraphProto) -> bool:
    """Tell whether a tensor of the graph, or of a graph inside it, is float16."""
    half = onnx.TensorProto.FLOAT16
    values = [*graph.input, *graph.output, *graph.value_info]
    return (
        any(value.type.tensor_type.elem_type == half for value in values)
        or any(tensor.data_type == half for tensor in graph.initializer)
        or any(
            node.op_type == "Cast" and attribute.name == "to" and attribute.i == half
            for node in graph.node
            for attribute in node.attribute
        )
        or any(holds_float16(inner) for node in graph.node for inner in inner_graphs(node))
    )


def _frozen(graph: onnx.GraphProto) -> List[Symptom]:
    """Find outputs that no input reaches: the exporter wrote them down as constants."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = {value.name for value in graph.input} - constants
    reached = set(inputs)
    for node in graph.node:  # in topological order, which ONNX demands
        if reached & used_by(node):
            reached.update(node.output)
    return [
        Symptom("results-frozen", f"output {value.name} depends on no input", value.name)
        for value in graph.output
        if value.name not in reached
    ]


def inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs that a node such as If or Loop holds."""
    for attribute in node.attribute:
        yield from attribute.graphs
        if attribute.HasField("g"):
            yield attribute.g


def used_by(node: onnx.NodeProto) -> Set[str]:
    """Return the tensors that a node reads, those that its inner graphs take from outside too."""
    names = {name for name in node.input if name}
    for graph in inner_graphs(node):
        used = {name for inner in graph.node for name in used_by(inner)}
        used.update(value.name for value in graph.output)
        own = {value.name for value in [*graph.input, *graph.initializer]}
        own.update(name for inner in graph.node for name in inner.output)
        names.update(used - own)
    return names


def _roi_align(model: onnx.ModelProto) -> List[Symptom]:
    opset = max((each.version for each in model.opset_import if not each.domain), default=0)
    if opset >= _ROI_ALIGN_MODES:
        return []
    return [
        Symptom("rois-half-a-pixel-off", f"opset {opset}\n{describe(node)}")
        for node in model.graph.node
        if node.op_type == "RoiAlign" and not node.domain
    ]


def _own_nms(model: onnx.ModelProto) -> List[Symptom]:
    """Find nodes called NonMaxSuppression that are another op."""
    return [
        Symptom("nms-of-ones-own", describe(node).lstrip())
        for node in model.graph.node
        if node.op_type == "NonMaxSuppression"
        and (node.domain or {each.name for each in node.attribute} - {"center_point_box"})
    ]
