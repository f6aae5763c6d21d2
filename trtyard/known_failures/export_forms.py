"""Forms of supported ops, and dynamic sizes, that an exporter refuses."""

from trtyard.known_failures.entry import KnownFailure

_BOTH = "measured: torch 2.13.0, both exporters; TensorRT for RTX 1.7.1 builds dynamo's file"

EXPORT_FORMS: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="fourier-transform",
        patterns=(
            r"Exporting the operator '?(?P<op>(?:aten::)?_?(?:fft_\w+|[ir]*fft\w*))'? to ONNX",
            r"ONNX export failed on ATen operator (?P<op>_?[ir]*fft\w*) because",
        ),
        affected=("any",),
        cause="the TorchScript exporter has no form for torch.fft. The dynamo exporter writes the "
        "op DFT, which ONNX Runtime supports and no TensorRT does",
        hint="for a fixed size n, write the transform as products with constant matrices: angles "
        "= 2 * pi * outer(arange(n), arange(n)) / n; real = x @ cos(angles), imaginary = -x @ "
        "sin(angles). Or compute it outside the network",
        sources=(
            "https://github.com/pytorch/pytorch/issues/149332",
            "https://github.com/pytorch/pytorch/issues/44822",
            "https://github.com/pytorch/pytorch/issues/107588",
            "measured: torch 2.13.0, both exporters; TensorRT for RTX 1.7.1",
        ),
    ),
    KnownFailure(
        name="adaptive-pooling",
        patterns=(
            r"ONNX export of operator (?P<op>adaptive_\w+pool\w*),",
            r"ONNX export failed on (?P<op>adaptive_\w+pool\w*) because input size not accessible",
            r"output size (?:that are|is) not factor of input size",
        ),
        affected=("exporter == torchscript",),
        cause="the TorchScript exporter supports adaptive pooling only if the input size is known "
        "and a multiple of the output size. Otherwise the pooling windows have different sizes",
        hint="use a row with the dynamo exporter, which writes each window. Or resize the input "
        "to a multiple of the output, or pool with AvgPool2d. Export with fixed shapes",
        sources=(
            "https://github.com/pytorch/pytorch/issues/64806",
            "https://github.com/pytorch/pytorch/issues/42653",
            "https://github.com/pytorch/pytorch/issues/74034",
            _BOTH,
        ),
    ),
    KnownFailure(
        name="complex-numbers",
        patterns=(
            r"ScalarType Complex\w+ is an unexpected tensor scalar type",
            r"RuntimeError: unexpected tensor scalar type",
            r"does not currently support complex types",
            r"Exporting the operator '?(?P<op>aten::(?:view_as_\w+|complex|polar|angle))'? to",
        ),
        affected=("exporter == torchscript",),
        cause="ONNX has no complex tensors for this exporter. The dynamo exporter writes a complex "
        "number as a pair of real ones",
        hint="use a row with the dynamo exporter. Or compute the real and the imaginary part "
        "separately: torch.view_as_real, return_complex=False, a magnitude as sqrt(re * re + im * "
        "im)",
        sources=(
            "https://github.com/pytorch/pytorch/issues/59246",
            "https://github.com/pytorch/pytorch/issues/139246",
            _BOTH,
        ),
    ),
    KnownFailure(
        name="assignment-by-indices",
        patterns=(r"Only consecutive 1-d tensor indices are supported",),
        affected=("exporter == torchscript",),
        cause="in y[:, i, :, j] = v, the TorchScript exporter needs index tensors that are "
        "adjacent and have one dimension",
        hint="build one flat index (i * width + j) over a flattened view, use scatter or "
        "torch.where with a mask, or use a row with the dynamo exporter",
        sources=(
            "https://github.com/pytorch/pytorch/issues/119993",
            _BOTH,
        ),
    ),
    KnownFailure(
        name="dimension-not-dynamic",
        patterns=(
            r"Constraints violated \(",
            r"was inferred to be a constant",
            r"specialized it to be a constant",
        ),
        affected=("exporter == dynamo",),
        cause="a dimension is marked as dynamic, but the model fixes it: its example has size 0 "
        "or 1 there, or forward compares it, converts it to a Python number or adds it to a "
        "tensor of that size",
        hint="give an example with a size other than 0 and 1, read sizes from x.shape in forward, "
        "or follow 'Suggested fixes'. ./run convert --input 1..8x3x224x224 names the line",
        sources=(
            "https://github.com/pytorch/pytorch/issues/133653",
            "https://github.com/pytorch/pytorch/issues/118289",
            "https://github.com/pytorch/pytorch/issues/121038",
        ),
    ),
    KnownFailure(
        name="exporter-gave-up",
        patterns=(
            r"INTERNAL ASSERT FAILED at \"[^\"\n]*/onnx/",
            r"SymbolicValueError: (?:Unsupported: )?",
            r"Unsupported: ONNX export of (?:operator )?(?P<op>\w+)",
        ),
        affected=("exporter == torchscript",),
        cause="the TorchScript exporter knows the op but not this use of it, or fails internally. "
        "Another exporter or a newer torch may support it",
        hint="use a row with the dynamo exporter (./run matrix), or rewrite the cited line. Fixed "
        "shapes (no dynamic_axes) are easier to export",
        sources=(
            "https://github.com/pytorch/pytorch/issues/133220",
            "https://github.com/pytorch/pytorch/issues/81551",
        ),
        general=True,
    ),
)
