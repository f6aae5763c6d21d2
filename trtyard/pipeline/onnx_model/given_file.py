"""Reads an ONNX file that a user gives as a model, and says what it declares."""

from pathlib import Path
from typing import Iterator, List, Optional, Tuple

import onnx
from onnx import TensorProto, helper

from trtyard.core.errors import UsageError
from trtyard.core.onnx_files import check_file
from trtyard.core.report import OnnxFile, OnnxTensor, Signature
from trtyard.pipeline.onnx_model.outside_data import check_outside
from trtyard.pipeline.onnx_model.symptoms import inner_graphs
from trtyard.pipeline.onnx_model.versions import session
from trtyard.pipeline.ops.registry import OP_TYPES

# How files begin that are often given for an ONNX file.
_OTHERS = (
    (b"PK", "a zip archive, such as a checkpoint of torch.save"),
    (b"<", "a page of a website"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive"),
)
_IR_VERSION_FIELD = b"\x08"  # what an ONNX file begins with
_OPEN = "?"
STANDARD_DOMAINS = ("", "ai.onnx")
_RUNTIME_DOMAINS = (  # of ONNX Runtime's own ops
    *("ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"),
    *("com.microsoft", "com.microsoft.experimental", "com.microsoft.nchwc"),
    *("com.ms.internal.nhwc", "org.pytorch.aten"),
)


def read_given(spec: str, option: str = "--model") -> Tuple[Path, onnx.ModelProto]:
    """Return the path and the content of the ONNX file ``spec``, without external data.

    ``spec`` is the value of ``option``.

    Raises:
        UsageError: it cannot be read, is newer than this row knows, or its external data is not
            there or not in its folder.
    """
    file, given = check_file(spec, option), f"{option} {spec}"
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's errors have no base class of their own
        raise UsageError(f"{given}: {_what_is_wrong(file)}", "export it again") from error
    if not model.graph.node:
        raise UsageError(
            f"{given}: the file has no nodes: it is empty, or not an ONNX file",
            "export it again",
        )
    _refuse_newer(model, given)
    check_outside(model, file, given)
    return file, model


def _what_is_wrong(file: Path) -> str:
    with file.open("rb") as stream:
        start = stream.read(8)
    if start[4:] == b"ORTM":
        return "the file is in ONNX Runtime's own format, not ONNX"
    for magic, what in _OTHERS:
        if start.startswith(magic):
            return f"the file is {what}, not ONNX"
    if start.startswith(_IR_VERSION_FIELD):
        return "the file is truncated or damaged: protobuf cannot read it"
    return "the file is not an ONNX file: protobuf cannot read it"


def standard_opset(model: onnx.ModelProto) -> int:
    """Return the opset of the standard ops; 0 if the file has none."""
    found = [one.version for one in model.opset_import if one.domain in STANDARD_DOMAINS]
    return max(found) if found else 0


def _refuse_newer(model: onnx.ModelProto, given: str) -> None:
    """Raise ``UsageError`` if onnx or ONNX Runtime do not know the IR version or the opset."""
    ir, opset = model.ir_version, standard_opset(model)
    if not opset:
        raise UsageError(f"{given}: the file has no opset", "export it again")
    mine = f"onnx {onnx.__version__}"
    if ir > onnx.IR_VERSION:
        raise _newer(given, "IR version", ir, onnx.IR_VERSION, mine)
    if opset > onnx.defs.onnx_opset_version():
        raise _newer(given, "opset", opset, onnx.defs.onnx_opset_version(), mine)
    if _runs(ir, opset):
        return
    import onnxruntime

    mine = f"ONNX Runtime {onnxruntime.__version__}"
    if not _runs(ir, 1):
        newest = next((one for one in range(ir - 1, 0, -1) if _runs(one, 1)), 0)
        raise _newer(given, "IR version", ir, newest, mine)
    newest = next((one for one in range(opset - 1, 0, -1) if _runs(ir, one)), 0)
    raise _newer(given, "opset", opset, newest, mine)


def _newer(given: str, what: str, found: int, newest: int, by: str) -> UsageError:
    again = f"export it with an older onnx, for IR version {newest}"
    if what == "opset":
        again = (
            f"export it at opset {newest} or older, or use "
            f"onnx.version_converter.convert_version(model, {newest})"
        )
    return UsageError(
        f"{given}: the file has {what} {found}, and {by} of this row knows up to {newest}",
        f"{again}; or use a row with a newer one: ./run matrix",
    )


def _runs(ir: int, opset: int) -> bool:
    """Tell whether ONNX Runtime takes a small file of these versions."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = ir
    try:
        session(model.SerializeToString())
    except Exception:  # its exceptions have no base class of their own
        return False
    return True


def facts_of(model: onnx.ModelProto) -> OnnxFile:
    """Return what the file declares."""
    return OnnxFile(
        len(model.graph.node),
        standard_opset(model),
        model.ir_version,
        tuple(_declared(value) for value in inputs_of(model)),
        tuple(_declared(value) for value in model.graph.output),
        " ".join(filter(None, (model.producer_name, model.producer_version))),
    )


def signature_in(file: Path) -> Optional[Signature]:
    """Return the inputs and outputs that an ONNX file declares; None if there is no file."""
    if not file.is_file():
        return None
    facts = facts_of(onnx.load(str(file), load_external_data=False))
    return Signature(facts.inputs, facts.outputs)


def inputs_of(model: onnx.ModelProto) -> List[onnx.ValueInfoProto]:
    """Return the inputs without the initializers, which older files list as inputs too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def dimensions_of(value: onnx.ValueInfoProto) -> Optional[List[str]]:
    """Return each dimension as "3", "batch", or "?" without a name; None if not declared."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        str(one.dim_value) if one.dim_value > 0 else (one.dim_param or _OPEN)
        for one in tensor.shape.dim
    ]


def _declared(value: onnx.ValueInfoProto) -> OnnxTensor:
    shape = dimensions_of(value)
    return OnnxTensor(value.name, type_name(value), None if shape is None else tuple(shape))


def type_name(value: onnx.ValueInfoProto) -> str:
    """Return the type of a tensor as numpy writes it, such as "float32"; else its kind."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return (kind or "no type").replace("_type", "")
    return element_name(value.type.tensor_type.elem_type)


def element_name(elem_type: int) -> str:
    """Return the name of an element type: "float32", "int64", "bfloat16"."""
    names = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64"}
    return names.get(elem_type) or str(TensorProto.DataType.Name(elem_type)).lower()


def precision_in(model: onnx.ModelProto) -> str:
    """Return the types of the file's weights as the report has them: "fp32", "fp32 and int8"."""
    short = {
        TensorProto.FLOAT: "fp32",
        TensorProto.FLOAT16: "fp16",
        TensorProto.DOUBLE: "fp64",
        getattr(TensorProto, "BFLOAT16", None): "bf16",
    }
    found = {short[one.data_type] for one in model.graph.initializer if one.data_type in short}
    types = {one.name: one.data_type for one in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = types.get(node.input[2]) if len(node.input) > 2 else TensorProto.UINT8
            if zero is not None and zero != TensorProto.INT32:  # of a bias
                found.add(element_name(zero))
    return " and ".join(sorted(found)) or "fp32"


def all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of the graph, of its inner graphs and of the functions."""
    yield from _with_inner(model.graph.node)
    for function in getattr(model, "functions", ()):
        yield from _with_inner(function.node)


def _with_inner(nodes: List[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for graph in inner_graphs(node):
            yield from _with_inner(graph.node)


def unknown_ops(model: onnx.ModelProto, own_domain: str) -> List[onnx.NodeProto]:
    """Return the nodes of custom ops that no row has a plugin and the file no function for."""
    functions = {(one.domain, one.name) for one in getattr(model, "functions", ())}
    found = []
    for node in all_nodes(model):
        if (node.domain, node.op_type) in functions or node.domain in _RUNTIME_DOMAINS:
            continue
        if node.domain == own_domain and node.op_type in OP_TYPES:
            continue
        is_standard = node.domain in STANDARD_DOMAINS
        if not (is_standard and onnx.defs.has(node.op_type)):
            found.append(node)
    return found
