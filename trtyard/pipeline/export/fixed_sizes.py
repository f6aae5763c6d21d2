"""Export a module that has no variable sizes, without the nodes that compute them.

torch.export captures such a module too, but takes twice the time of a TorchScript trace. A trace
has nodes for every size that Python reads. Here sizes are plain numbers while the module is traced,
and what the exporter adds is computed from the shapes. The file then has about as many nodes as
that of torch.export, and its network as many layers.
"""

from typing import Any, Optional, Sequence

import onnx
import torch

from trtyard.pipeline.export.torchscript import export_torchscript
from trtyard.pipeline.torch_support.versions import sizes_untraced


def export_fixed_sizes(
    module: torch.nn.Module,
    inputs: Sequence[torch.Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    opset: int,
) -> onnx.ModelProto:
    """Return the module as an ONNX model in which every size is a constant.

    Raises:
        ConversionError: the module cannot be traced, or one of its ops has no ONNX form.
    """
    with sizes_untraced():
        model = export_torchscript(module, inputs, input_names, output_names, opset)
    return fold_sizes(model)


def fold_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with shapes, and what is computed from them, as constants.

    Each node keeps its name and its line. Equal small constants become one, because TensorRT makes
    a layer of each.
    """
    # Only rows with onnxscript export this way.
    from onnx_ir import from_proto, to_proto
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants_ir

    graph = from_proto(model)
    fold_constants_ir(graph, onnx_shape_inference=True, should_fold=_as_a_constant)
    common.RemoveUnusedNodesPass()(graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    common.DeduplicateInitializersPass()(graph)
    folded: onnx.ModelProto = to_proto(graph)
    return folded


def _as_a_constant(node: Any) -> Optional[bool]:
    """Return True for what the optimizer folds only if told to; None leaves it the choice.

    The exporter computes the amounts of a Pad with ConstantOfShape, and all shapes behind the Pad
    depend on them.
    """
    return True if node.op_type == "ConstantOfShape" else None
