"""The custom ops written in standard ONNX ops, for every runtime that has no kernel for them."""

from pathlib import Path
from typing import Iterable, Iterator, List

import onnx
import onnx.helper

from trtyard.pipeline.onnx_functions.body import Attributes, Body
from trtyard.pipeline.onnx_functions.roi_align import roi_align
from trtyard.pipeline.ops.contracts import DOMAIN, DOMAIN_VERSION, OP_TYPES, ROI_ALIGN

__all__ = [
    "DOMAIN",
    "DOMAIN_VERSION",
    "OP_TYPES",
    "custom_ops_in",
    "function",
    "functions_for",
    "opset_of",
]

# Of the ops in PaddedNMS.onnxtxt; RoiAlign has half pixels from there on, too.
MINIMUM_OPSET = 16


def functions_for(model: onnx.ModelProto) -> "List[onnx.FunctionProto]":
    """Return a function for each custom op that ``model`` uses, at the model's own opset.

    There is none where the opset is older than the ops that the bodies need.
    """
    opset = opset_of(model)
    if opset < MINIMUM_OPSET:
        return []
    return [function(op_type, opset) for op_type in custom_ops_in(model)]


def custom_ops_in(model: onnx.ModelProto) -> List[str]:
    """Return the types of the custom ops that ``model`` uses, each once."""
    used = {node.op_type for node in model.graph.node if node.domain == DOMAIN}
    return [op_type for op_type in OP_TYPES if op_type in used]


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the standard ops that ``model`` is written in."""
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def function(op_type: str, opset: int) -> "onnx.FunctionProto":
    """Return the ONNX function of ``op_type`` written for ``opset``.

    Raises:
        ValueError: the opset is older than the ops that the body needs.
    """
    if opset < MINIMUM_OPSET:
        raise ValueError(f"{op_type} needs opset {MINIMUM_OPSET} or newer, not {opset}")
    if op_type == ROI_ALIGN.op_type:
        return _roi_align(opset)
    import onnx.parser  # from onnx 1.9 on

    text = (Path(__file__).parent / f"{op_type}.onnxtxt").read_text(encoding="utf-8")
    parsed = onnx.parser.parse_function(text.replace("OPSET", str(opset), 1))
    for node in nodes_within(parsed.node):
        node.name = node.output[0]  # as in body.py
    return parsed


def nodes_within(nodes: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.NodeProto]":
    """Yield ``nodes`` and those in the graphs that they hold."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            yield from nodes_within(attribute.g.node)


def _roi_align(opset: int) -> "onnx.FunctionProto":
    body = Body("", opset)
    pooled = roi_align(body, list(ROI_ALIGN.inputs), Attributes(), like_features=True)
    body.add("Identity", pooled, output=ROI_ALIGN.outputs[0])
    return onnx.helper.make_function(
        DOMAIN,
        ROI_ALIGN.op_type,
        list(ROI_ALIGN.inputs),
        list(ROI_ALIGN.outputs),
        body.nodes,
        [onnx.helper.make_opsetid("", opset)],
        [name for name, _ in ROI_ALIGN.attributes if name not in ROI_ALIGN.optional],
        [onnx.helper.make_attribute(name, 0) for name in ROI_ALIGN.optional],
    )
