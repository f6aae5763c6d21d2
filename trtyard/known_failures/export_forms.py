"""What an exporter refuses of ops that it has, and of sizes that are to be dynamic."""

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
        cause="torch.fft has no form in the TorchScript exporter. The dynamo exporter writes the "
        "op DFT, which ONNX Runtime runs and no TensorRT takes",
        hint="write the transform as products with constant matrices, for a fixed size n: angles = "
        "2 * pi * outer(arange(n), arange(n)) / n; real = x @ cos(angles), imaginary = -x @ "
        "sin(angles). Or leave it out of the network",
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
        cause="adaptive pooling to a size that does not divide the input's has windows of "
        "different sizes, for which the TorchScript exporter has no form; nor has it one where "
        "the input's size is not known",
        hint="take a row with the dynamo exporter, which writes each window; or resize the input "
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
        hint="take a row with the dynamo exporter; or compute with real and imaginary part apart: "
        "torch.view_as_real, return_complex=False, a magnitude as sqrt(re * re + im * im)",
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
        cause="y[:, i, :, j] = v: the TorchScript exporter takes several index tensors only side "
        "by side and of one dimension",
        hint="make one flat index of them (i * width + j) over a flattened view, use scatter or "
        "torch.where with a mask, or take a row with the dynamo exporter",
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
        cause="a dimension was asked to be dynamic, and the model fixes it: its example has the "
        "size 1 or 0 there, or forward compares it, puts it into a Python number or adds it to a "
        "tensor of that size",
        hint="give an example of another size than 0 and 1, take sizes from x.shape in forward, or "
        "follow 'Suggested fixes'. ./run convert --input 1..8x3x224x224 names the line",
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
        cause="the TorchScript exporter knows the op and not this use of it, or fails inside; "
        "another exporter or a newer torch may take it",
        hint="take a row with the dynamo exporter (./run matrix), or write the line that is cited "
        "in another form; fixed shapes (no dynamic_axes) are easier",
        sources=(
            "https://github.com/pytorch/pytorch/issues/133220",
            "https://github.com/pytorch/pytorch/issues/81551",
        ),
        general=True,
    ),
)
