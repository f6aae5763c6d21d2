"""``--simplify``: ONNX Runtime's own optimizer, with standard ops only.

Custom ops with a plugin are cut out before: ONNX Runtime would put their functions' nodes in their
place, and TensorRT would get no plugin. See "Own code or a library" in docs/design.md.
"""

import tempfile
from pathlib import Path
from typing import List, Mapping

import onnx
from onnx import helper

from trtyard.core.errors import ConversionError, UsageError
from trtyard.core.files import write_bytes
from trtyard.core.report import Simplified
from trtyard.pipeline.onnx_model.given_file import STANDARD_DOMAINS, all_nodes
from trtyard.pipeline.onnx_model.order import in_order
from trtyard.pipeline.onnx_model.outside_data import outside_tensors, write_model
from trtyard.pipeline.onnx_model.symptoms import holds_float16, inner_graphs, used_by
from trtyard.pipeline.onnx_model.versions import runtime_release
from trtyard.pipeline.ops.contract import DOMAIN, FLOAT32, FLOATS, INT32
from trtyard.pipeline.ops.registry import OPS

# The first release whose Python API can leave optimizers out.
_FIRST_RELEASE = (1, 6)
# These change the graph for ONNX Runtime's own kernels on a CPU. The first makes Reshape, Gemm and
# Reshape of a batched MatMul and Add; the others move, double or add nodes of quantized models.
# WeightBiasQuantization makes int32 biases, which TensorRT's DequantizeLinear does not take.
_LEFT_OUT = (
    "MatMulAddFusion",
    "GemmActivationFusion",
    "QDQPropagationTransformer",
    "EnsureUniqueDQForNodeUnit",
    "WeightBiasQuantization",
    "WhereDummyDq",
)
_ERRORS_ONLY = 3
_DATA_NAME = "session.optimized_model_external_initializers_file_name"


def check_release() -> None:
    """Raise ``UsageError`` if this row's ONNX Runtime is too old."""
    release = runtime_release()
    if release < _FIRST_RELEASE:
        raise UsageError(
            "--simplify needs ONNX Runtime {}.{} or newer; this row has {}.{}".format(
                *_FIRST_RELEASE, *release
            ),
            "leave out --simplify, or use a newer row: ./run matrix",
        )


def simplify(file: Path, data: Path) -> Simplified:
    """Simplify the model in ``file`` and return its numbers of nodes.

    Args:
        file: replaced whole or not at all.
        data: its weights that are not in it; replaced too.

    Raises:
        ConversionError: ONNX Runtime cannot load the model, it holds float16, or a custom op is in
            an inner graph.
    """
    before = onnx.load(str(file), load_external_data=False)
    if holds_float16(before.graph):
        raise ConversionError(
            "--simplify is not for float16: ONNX Runtime computes it in float32 on the CPU, and "
            "would write float32 to the file",
            "leave out --simplify, or simplify the file before it is converted to float16",
        )
    custom = [node for node in before.graph.node if node.domain == DOMAIN]
    inner = [one for node in before.graph.node for one in inner_graphs(node)]
    if any(node.domain == DOMAIN for graph in inner for node in _nodes_of(graph)):
        raise ConversionError(
            f"--simplify cannot keep custom ops of domain {DOMAIN} inside If, Loop or Scan",
            "leave out --simplify",
        )
    with tempfile.TemporaryDirectory(prefix="simplify-", dir=str(file.parent)) as folder:
        made = Path(folder, "made.onnx")
        cut = file.with_name("cut.onnx")  # beside its data
        write_bytes(cut, _without(before, custom).SerializeToString())
        try:
            _optimize(cut, made, with_data=bool(outside_tensors(before)))
        finally:
            cut.unlink()
        after = onnx.load(str(made), load_external_data=False)
        _put_back(after, before, custom)
        _remove_unused(after.graph)
        _refuse_other_domains(before, after)
        write_model(after, made.parent, file, data)
        if not outside_tensors(after) and data.exists():
            data.unlink()
    return Simplified(len(before.graph.node), len(after.graph.node))


def _nodes_of(graph: onnx.GraphProto) -> List[onnx.NodeProto]:
    found = list(graph.node)
    for node in graph.node:
        for inner in inner_graphs(node):
            found += _nodes_of(inner)
    return found


def _without(model: onnx.ModelProto, custom: List[onnx.NodeProto]) -> onnx.ModelProto:
    """Return a copy in which the custom nodes' outputs are inputs, and their inputs outputs."""
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    if not custom:
        return cut
    types = {one.name: one for one in [*cut.graph.value_info, *cut.graph.output]}
    inferred = onnx.shape_inference.infer_shapes(_types_alone(model)).graph
    types = {**{one.name: one for one in inferred.value_info}, **types}
    types = {**{one.name: one for one in cut.graph.input}, **types}
    for tensor in cut.graph.initializer:
        types[tensor.name] = helper.make_tensor_value_info(tensor.name, tensor.data_type, None)
    kept = [node for node in cut.graph.node if node.domain != DOMAIN]
    del cut.graph.node[:]
    cut.graph.node.extend(kept)
    made = {name for node in kept for name in node.output}
    outputs = [one.name for one in cut.graph.output]
    for node in custom:
        for index, name in enumerate(node.output):
            if name:
                cut.graph.input.append(types.get(name) or _by_contract(node, index, types))
        for name in node.input:
            if name in made and name not in outputs:
                # A type is not needed: ONNX Runtime infers it.
                value = types.get(name) or onnx.ValueInfoProto(name=name)
                cut.graph.output.append(value)
                outputs.append(name)
    from_custom = {name for node in custom for name in node.output}
    ends = [one for one in cut.graph.output if one.name not in from_custom]
    del cut.graph.output[:]
    cut.graph.output.extend(ends)
    return cut


def _by_contract(
    node: onnx.NodeProto, index: int, types: Mapping[str, onnx.ValueInfoProto]
) -> onnx.ValueInfoProto:
    """Return name and type of a custom node's output, without its shape.

    Raises:
        ConversionError: it has the type of an input, and that is not known.
    """
    op = next(one for one in OPS if one.op_type == node.op_type)
    kind = {INT32: onnx.TensorProto.INT32, FLOAT32: onnx.TensorProto.FLOAT}.get(
        op.output_types[index]
    )
    for name, input_type in zip(node.input, op.input_types):
        if kind is None and input_type == FLOATS and name in types:
            kind = types[name].type.tensor_type.elem_type
    if not kind:
        raise ConversionError(
            f"--simplify needs the type of {node.output[index]}, an output of the custom op "
            f"{node.name}",
            "leave out --simplify, or export the file with value_info",
        )
    return helper.make_tensor_value_info(node.output[index], kind, None)


def _types_alone(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model without the values of large weights, for shape inference."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if len(tensor.raw_data) > 1 << 16:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    return bare


def _optimize(file: Path, made: Path, *, with_data: bool) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(made)
    options.log_severity_level = _ERRORS_ONLY
    if with_data:
        options.add_session_config_entry(_DATA_NAME, "made.data")
    try:
        onnxruntime.InferenceSession(
            str(file),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(_LEFT_OUT),
        )
    except Exception as error:  # its exceptions have no base class of their own
        raise ConversionError(
            f"ONNX Runtime cannot simplify the file: {str(error).strip()}",
            "leave out --simplify",
            log=str(error),
        ) from error


def _put_back(
    after: onnx.ModelProto, before: onnx.ModelProto, custom: List[onnx.NodeProto]
) -> None:
    """Restore what the optimizer does not keep: source lines, opsets, custom nodes, outputs."""
    _keep_lines(after, before)
    del after.opset_import[:]
    after.opset_import.extend(before.opset_import)
    if hasattr(before, "functions"):
        del after.functions[:]
        if custom:
            after.functions.extend(one for one in before.functions if one.domain == DOMAIN)
    if not custom:
        return
    after.ir_version = max(after.ir_version, before.ir_version)
    there = {one.name for one in after.graph.initializer}
    used = {name for node in custom for name in node.input}
    for tensor in before.graph.initializer:
        if tensor.name in used and tensor.name not in there:
            after.graph.initializer.append(tensor)
            for entry in after.graph.initializer[-1].external_data:
                if entry.key == "location":  # the folder of ``after`` is one below
                    entry.value = str(Path("..", entry.value))
    from_custom = {name for node in custom for name in node.output}
    inputs = [one for one in after.graph.input if one.name not in from_custom]
    del after.graph.input[:]
    after.graph.input.extend(inputs)
    after.graph.value_info.extend(one for one in before.graph.value_info if one.name in from_custom)
    del after.graph.output[:]
    after.graph.output.extend(before.graph.output)
    nodes = in_order([*after.graph.node, *custom])
    del after.graph.node[:]
    after.graph.node.extend(nodes)


def _remove_unused(graph: onnx.GraphProto) -> None:
    """Remove the nodes on which no output depends, which the optimizer leaves."""
    used = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # in topological order, which ONNX demands
        if used & set(node.output):
            kept.append(node)
            used |= used_by(node)
    del graph.node[:]
    graph.node.extend(reversed(kept))


def _keep_lines(after: onnx.ModelProto, before: onnx.ModelProto) -> None:
    """Give the nodes that are left the source lines that their exporter recorded."""
    known = {(node.name, node.op_type): node for node in before.graph.node if node.name}
    for node in after.graph.node:
        old = known.get((node.name, node.op_type))
        if old is None:
            continue
        node.doc_string = old.doc_string
        if hasattr(old, "metadata_props"):  # from onnx 1.16 on
            del node.metadata_props[:]
            node.metadata_props.extend(old.metadata_props)
    after.producer_name, after.producer_version = before.producer_name, before.producer_version


def _refuse_other_domains(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """See that the optimizer added no op of its own."""
    known = {node.domain for node in all_nodes(before)} | set(STANDARD_DOMAINS)
    other = [node for node in all_nodes(after) if node.domain not in known]
    if other:
        raise ConversionError(
            f"ONNX Runtime put its own op {other[0].domain}::{other[0].op_type} into the file",
            "leave out --simplify",
        )
