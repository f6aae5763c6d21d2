"""Functions that older torch and torchvision releases do not have."""

import contextlib
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import torch
import torchvision

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.pipeline.ops.contract import DOMAIN, Op
from trtyard.pipeline.torch_support.old_pickles import has_own_hash, load_only_tensors

# torch.library.custom_op came with torch 2.4. Before, the ops are autograd functions.
HAS_CUSTOM_OP = hasattr(getattr(torch, "library", None), "custom_op")
# torch.onnx.export has ``dynamo`` from torch 2.1 on. Later releases make it the default.
HAS_DYNAMO_CHOICE = HAS_CUSTOM_OP


def minimum(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the smaller of each pair (torch.minimum from 1.7 on)."""
    return torch.minimum(first, second) if hasattr(torch, "minimum") else torch.min(first, second)


def maximum(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the larger of each pair (torch.maximum from 1.7 on)."""
    return torch.maximum(first, second) if hasattr(torch, "maximum") else torch.max(first, second)


def smallest(values: torch.Tensor) -> torch.Tensor:
    """Return the smallest along the last dimension (torch.amin from 1.7 on)."""
    return torch.amin(values, dim=-1) if hasattr(torch, "amin") else values.min(dim=-1)[0]


def not_negative(values: torch.Tensor) -> torch.Tensor:
    """Return integers with negative values replaced by 0.

    Not with ``clamp``: Clip supports only floats before opset 12, and ONNX Runtime's CUDA provider
    has none of int32.
    """
    if hasattr(torch, "maximum"):
        return torch.maximum(values, torch.zeros((), dtype=values.dtype, device=values.device))
    return torch.where(values < 0, torch.zeros_like(values), values)


def descending(values: torch.Tensor) -> torch.Tensor:
    """Return the indices that sort a row of values, highest first, ties by index.

    torch has a stable sort from 1.9 on.
    """
    if _at_least(1, 9):
        return torch.sort(values, descending=True, stable=True)[1]
    order = (-values.detach().cpu().numpy()).argsort(kind="stable")
    return torch.from_numpy(order).to(values.device)


def floor_divided(values: torch.Tensor, divisor: int) -> torch.Tensor:
    """Return integer quotients of int64 values that are not negative."""
    if _at_least(1, 8):
        return torch.div(values, divisor, rounding_mode="floor")
    return values // divisor


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """Return 2 to the power of each value (torch.exp2 from 1.7 on)."""
    if hasattr(torch, "exp2"):
        return torch.exp2(exponent)
    return torch.pow(torch.full_like(exponent, 2), exponent)


def as_index(rows: torch.Tensor) -> torch.Tensor:
    """Return row indices in a type that index_select accepts (int32 from 1.5 on)."""
    return rows if _at_least(1, 5) else rows.long()


def is_tracing() -> bool:
    """Return whether a TorchScript trace is being recorded (torch.jit.is_tracing from 1.7 on)."""
    if hasattr(torch.jit, "is_tracing"):
        return bool(torch.jit.is_tracing())
    return torch._C._get_tracing_state() is not None


def is_exporting() -> bool:
    """Return whether an exporter records the model (torch.compiler.is_exporting from 2.7 on)."""
    compiler = getattr(torch, "compiler", None)
    is_captured = getattr(compiler, "is_exporting", getattr(compiler, "is_compiling", None))
    return is_tracing() or (is_captured is not None and bool(is_captured()))


@contextlib.contextmanager
def untraced() -> Iterator[None]:
    """Pause the tracer inside the block. It would warn about every value that Python reads."""
    state = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


@contextlib.contextmanager
def sizes_untraced() -> Iterator[None]:
    """Make sizes of tensors plain numbers inside the block, which the tracer does not follow."""

    def size(self: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        with untraced():
            return torch._C._TensorBase.size(self, *arguments, **options)

    # Both are attributes of a base class: deleted, they are the base's again.
    tensor: Any = torch.Tensor
    tensor.size, tensor.shape = size, property(size)
    try:
        yield
    finally:
        del tensor.size, tensor.shape


def keep_beside_weights(module: torch.nn.Module, name: str, value: torch.Tensor) -> None:
    """Register a buffer outside the state dict (torch 1.6), or set an attribute."""
    if _at_least(1, 6):
        module.register_buffer(name, value, persistent=False)
    else:
        setattr(module, name, value)


def load_tensors(path: str) -> Any:
    """Load a checkpoint without running code from it.

    Raises:
        UsageError: this torch is older than 1.13, which added that, and the name of the file does
            not have its hash, as names of published files have.
    """
    if not _at_least(1, 13):
        if has_own_hash(path):
            return load_only_tensors(path)
        raise UsageError(
            f"torch {torch.__version__} cannot read {path} without executing code in it",
            "save the weights as FILE.safetensors, which holds no code, or use --weights seeded",
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def roi_align(
    features: torch.Tensor,
    rois: torch.Tensor,
    size: Tuple[int, int],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> torch.Tensor:
    """Return torchvision's roi_align, which supports ``aligned`` from 0.6 on.

    Raises:
        EnvironmentLacksError: ``aligned`` is set and torchvision is older.
    """
    if _at_least(1, 5):
        return torchvision.ops.roi_align(features, rois, size, scale, sampling_ratio, aligned)
    if aligned:
        raise EnvironmentLacksError(
            f"torchvision {torchvision.__version__} has no aligned RoIAlign",
            "choose a newer row: ./run matrix",
        )
    return torchvision.ops.roi_align(features, rois, size, scale, sampling_ratio)


def classifier_names() -> List[str]:
    """Return the names of torchvision's classification models, sorted."""
    return _names_in(torchvision.models)


def segmenter_names() -> List[str]:
    """Return the names of torchvision's models for semantic segmentation, sorted."""
    return _names_in(torchvision.models.segmentation)


def detector_names() -> List[str]:
    """Return the names of torchvision's detectors, including masks and keypoints, sorted."""
    return _names_in(torchvision.models.detection)


def _names_in(package: Any) -> List[str]:
    if hasattr(torchvision.models, "list_models"):  # from 0.14 on
        return sorted(torchvision.models.list_models(module=package))
    return sorted(
        name
        for name, value in vars(package).items()
        if name.islower() and not name.startswith("_") and callable(value)
    )


def untrained_classifier(name: str, **options: bool) -> torch.nn.Module:
    """Return torchvision's model of that name, without published weights."""
    models = torchvision.models
    if hasattr(models, "get_model"):
        return models.get_model(name, weights=None, **options)
    if name == "inception_v3" and not _at_least(1, 5):
        options.pop("init_weights", None)  # from torchvision 0.6 on
    return getattr(models, name)(pretrained=False, **options)


def untrained_segmenter(name: str, **options: bool) -> torch.nn.Module:
    """Return torchvision's model of that name, nothing of it with published weights."""
    return _without_backbone_weights(torchvision.models.segmentation, name, **options)


def untrained_detector(name: str) -> torch.nn.Module:
    """Return torchvision's model of that name, nothing of it with published weights."""
    return _without_backbone_weights(torchvision.models.detection, name)


def _without_backbone_weights(package: Any, name: str, **options: bool) -> torch.nn.Module:
    if hasattr(torchvision.models, "get_model"):
        return torchvision.models.get_model(name, weights=None, weights_backbone=None, **options)
    return getattr(package, name)(pretrained=False, pretrained_backbone=False, **options)


@contextlib.contextmanager
def attention_in_parts(module: torch.nn.Module) -> Iterator[None]:
    """Disable the fast path of nn.MultiheadAttention, one op that has no ONNX form.

    torch uses it in eval mode if no parameter requires gradients. torch 2.3 and newer have a
    switch. In older releases, a parameter that requires gradients disables it.
    """
    if hasattr(torch.backends, "mha"):
        enabled = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(enabled)
        return
    attentions = [
        each for each in module.modules() if isinstance(each, torch.nn.MultiheadAttention)
    ]
    frozen = [
        parameter
        for each in attentions
        for parameter in each.parameters(recurse=False)
        if not parameter.requires_grad
    ]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        with torch.set_grad_enabled(bool(attentions)):
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


@contextlib.contextmanager
def attention_of_any_length() -> Iterator[None]:
    """Have nn.MultiheadAttention split its packed projection by chunks, as torch did before 2.0.

    Since then it uses unflatten and squeeze. The TorchScript exporter takes the shape after those
    to be that of the trace, and writes the length of the sentence as a constant.
    """
    functional: Any = torch.nn.functional
    usual: Any = getattr(functional, "_in_projection_packed", None)

    def packed(q: Any, k: Any, v: Any, w: Any, b: Any = None) -> Any:
        if k is not v:
            return usual(q, k, v, w, b)
        if q is k:
            return _chunks(functional.linear(q, w, b), 3)
        width = q.size(-1)
        w_q, w_kv = w.split([width, width * 2])
        b_q, b_kv = (None, None) if b is None else b.split([width, width * 2])
        return [functional.linear(q, w_q, b_q), *_chunks(functional.linear(k, w_kv, b_kv), 2)]

    try:
        if usual is not None:
            functional._in_projection_packed = packed
        yield
    finally:
        if usual is not None:
            functional._in_projection_packed = usual


def _chunks(values: torch.Tensor, count: int) -> List[torch.Tensor]:
    return [each.contiguous() for each in values.chunk(count, dim=-1)]


def export_choice() -> Dict[str, bool]:
    """Return the arguments that make ``torch.onnx.export`` use the TorchScript-based exporter."""
    return {"dynamo": False} if HAS_DYNAMO_CHOICE else {}


def doc_string_choice() -> Dict[str, bool]:
    """Return the arguments that make the exporter keep each node's stack as its doc string.

    torch 1.10 replaced ``strip_doc_string`` by ``verbose``, which also prints the graph.
    """
    return {"verbose": True} if _at_least(1, 10) else {"strip_doc_string": False}


def example_choice(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Dict[str, Any]:
    """Return the arguments that describe TorchScript's outputs, needed before torch 1.10."""
    if _at_least(1, 10) or not isinstance(module, torch.jit.ScriptModule):
        return {}
    return {"example_outputs": module(*[value.clone() for value in inputs])}


def custom_node(graph: Any, op: Op, arguments: Sequence[Any]) -> Any:
    """Add a custom op's node to the exporter's graph and return its output or outputs.

    torch 1.4 supports only nodes of ONNX's domain. The exporter's caller has to move the node.
    """
    tensors, values = op.apart(arguments)
    domain = DOMAIN + "::" if _at_least(1, 5) else ""
    attributes = {
        name + ("_f" if kind is float else "_i"): values[name] for name, kind in op.attributes
    }
    return graph.op(domain + op.op_type, *tensors, outputs=len(op.outputs), **attributes)


def set_type(
    value: Any, like: Any, sizes: Sequence[Optional[int]], dtype: Optional[torch.dtype] = None
) -> None:
    """Set the type of a value in the exporter's graph: like ``like``, with other sizes and dtype.

    A size of None stays dynamic. torch 1.4 keeps the types of the trace and does not set others.
    """
    if hasattr(torch._C.TensorType, "with_sizes"):
        kind = like.type() if dtype is None else like.type().with_dtype(dtype)
        value.setType(kind.with_sizes(list(sizes)))


def size_of(value: Any, dimension: int) -> Optional[int]:
    """Return a size of a value in the exporter's graph; None if it depends on values."""
    kind = value.type()
    sizes = kind.varyingSizes() if hasattr(kind, "varyingSizes") else kind.sizes()
    return None if sizes is None else sizes[dimension]


def register_symbolic(name: str, symbolic: Any, opset: int) -> None:
    """Register a custom op's ONNX form. Autograd functions have their own."""
    if HAS_CUSTOM_OP:
        torch.onnx.register_custom_op_symbolic(name, symbolic, opset)


def _at_least(major: int, minor: int) -> bool:
    found = torch.__version__.split("+")[0].split(".")
    return tuple(int(part) for part in found[:2]) >= (major, minor)


# The epsilon of a batch norm without one. torch 2.11 refuses 0, on CUDA also 2.12. Added to a
# variance above 1e-22, this value changes nothing. torch 1.4 writes it into the ONNX file.
NO_EPSILON = 1e-30 if _at_least(2, 0) else 0.0
