"""Forms of supported ops that TensorRT's ONNX parser refuses."""

from trtyard.known_failures.entry import KnownFailure

_CHANGELOG = "https://github.com/onnx/onnx-tensorrt/blob/main/docs/Changelog.md"
_RTX = "measured: TensorRT for RTX 1.7.1"
# The parser's import functions that are not ops.
_NO_OPS = "FallbackPlugin|Plugin|TRT_|Model|Input|Graph|LocalFunction"

PARSER_FORMS: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="scatter-more-than-there-is",
        patterns=(r"(?:Indices|Updates) dimensions must be less than data dimensions!",),
        affected=("any",),
        cause="ScatterElements has more indices along an axis than its data has elements, as in "
        "scatter_add from many edges into few nodes. ONNX allows it. No TensorRT release allows "
        "more indices than data",
        hint="write the sum as a matrix product: one_hot(index, nodes).T.to(x.dtype) @ x. Or pad "
        "the data to the number of indices, scatter, and slice",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2735",
            "https://github.com/onnx/onnx-tensorrt/issues/953",
            "https://github.com/onnx/onnx-tensorrt/issues/963",
            _RTX,
        ),
    ),
    KnownFailure(
        name="scatter-reduction-attribute",
        patterns=(r"Attribute reduction is not supported",),
        affected=("tensorrt < 8.2", "tensorrt >= 10.0, tensorrt < 10.9"),
        cause="TensorRT 10.0 to 10.8 refuses ScatterND with the attribute reduction, even with "
        "its default 'none', which exporters write from opset 16 on",
        hint="use TensorRT 10.9 or newer, or remove the attribute if it is 'none' (export at "
        "opset 15). No release supports a real reduction (add, mul, max): write a sum as a matrix "
        "product with one_hot(index)",
        sources=(
            "https://github.com/microsoft/onnxruntime/issues/23618",
            "https://github.com/onnx/onnx-tensorrt/issues/957",
        ),
    ),
    KnownFailure(
        name="scatter-with-reduction",
        patterns=(
            r"(?P<op>ScatterND) with reduction is not supported",
            r"In function import(?P<op>Scatter\w+):[\s\S]{0,80}Unsupported reduction type",
            r"Unsupported reduction type",
        ),
        affected=("any",),
        cause="a scatter adds, multiplies or compares (scatter_add, scatter_reduce, index_add, "
        "index_put with accumulate=True). Full TensorRT supports this for ScatterElements from "
        "10.0 on, and never for ScatterND. TensorRT for RTX supports neither",
        hint="a sum into n rows is a product with a one-hot matrix: (index[None] == "
        "torch.arange(n)[:, None]).float() @ x. A maximum is torch.where with the same mask, then "
        "amax",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/957",
            _CHANGELOG,
            _RTX,
        ),
    ),
    KnownFailure(
        name="pad-mode",
        patterns=(
            r"mode == \"constant\" && value == 0",
            r"only supports constant 0 padding",
        ),
        affected=("tensorrt < 8.2",),
        cause="Pad uses reflection, the edge, or a number other than 0. TensorRT supports these "
        "from 8.2 on",
        hint="use a newer row. Or pad with zeros (padding_mode='zeros'), build the border from "
        "slices and cat, or pad the picture before the network",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1019",
            "https://github.com/NVIDIA/TensorRT/issues/195",
            "https://github.com/onnx/onnx-tensorrt/issues/321",
            _CHANGELOG,
            _RTX + " takes constant, reflect, edge and wrap",
        ),
    ),
    KnownFailure(
        name="recurrent-activations",
        patterns=(
            r"activation(?:s| alphas| betas) for the reverse pass of the (?P<op>LSTM|GRU|RNN) do",
            r"Coupled input/forget is unsupported in the (?P<op>LSTM) converter",
        ),
        affected=("any",),
        cause="the two directions of the recurrent layer have different activations, alphas or "
        "betas, or the layer couples its gates. TensorRT supports one set for both directions. "
        "torch never writes such a layer, but converters from Keras do (HardSigmoid in one "
        "direction)",
        hint="convert with a newer keras2onnx or tf2onnx, or set recurrent_activation='sigmoid' "
        "for both directions. Otherwise split the layer into two, one per direction",
        sources=("https://github.com/NVIDIA/TensorRT/issues/1417", _RTX),
    ),
    KnownFailure(
        name="double-unsupported",
        patterns=(
            r"Unsupported ONNX data type: DOUBLE",
            r"Found unsupported datatype \(11\)",
        ),
        affected=("tensorrt < 8.0",),
        cause="TensorRT does not compute in float64. From 8.0 on its parser reads such tensors as "
        "float32",
        hint="export in float32: model.float() and float32 inputs, and no numpy constants in "
        "forward, which are float64 by default. Exporting again is better than a cast in the file",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/943",
            "https://github.com/onnx/onnx-tensorrt/issues/501",
            "https://github.com/onnx/onnx-tensorrt/pull/674",
            _RTX + " takes float64 inputs and constants as float32",
        ),
    ),
    KnownFailure(
        name="implicit-batch",
        patterns=(
            r"only supports (?:TensorRT INetworkDefinitions|networks) with an explicit batch",
            r"hasImplicitBatchDimension\(\)",
        ),
        cause="the program creates a network without EXPLICIT_BATCH, which the ONNX parser of "
        "TensorRT 7 to 9 requires. From 10 on every network has it",
        hint="builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)); "
        "trtexec: --explicitBatch, up to 8.x",
        sources=(
            "https://github.com/zerollzeng/tiny-tensorrt/issues/6",
            "https://github.com/NVIDIA/TensorRT/issues/358",
            "https://github.com/onnx/onnx-tensorrt/issues/266",
        ),
    ),
    KnownFailure(
        name="parser-too-old",
        patterns=(r"Assertion failed: (?:\w+\.|\w+->)*tensors(?:\(\))?\.count\(\w+\)",),
        affected=("tensorrt < 7.0",),
        cause="the parser does not know the node's input. Before TensorRT 7 it supports neither "
        "initializers that are not also inputs (IR version 4 and newer) nor constants made by "
        "some nodes",
        hint="use a newer TensorRT. Or export with keep_initializers_as_inputs=True and fold the "
        "constants",
        sources=("https://github.com/NVIDIA/TensorRT/issues/203",),
    ),
    KnownFailure(
        name="shapes-do-not-fit",
        patterns=(
            r"all concat input tensors must have the same",
            r"dimensions not compatible for concatenation",
            r"reshape would change volume",
            r"broadcast dimensions must be",
            r"all inputs tensors rank must be same",
            r"at least \d+ dimensions are required for input",
            r"Elementwise layer does not support the given inputs and operator",
            r"inputs must have (?:same|equal) (?:number of )?dimensions",
        ),
        cause="the shapes at this layer do not match. The input has another shape or lacks its "
        "batch dimension, a profile uses sizes that are constants in the file, or a converter "
        "left out an unknown op (torch2trt warns about it)",
        hint="run the file in ONNX Runtime with the same shape. If that fails too, export again "
        "for this shape, with sizes from x.shape instead of numbers in reshape and expand",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1324",
            "https://github.com/NVIDIA/TensorRT/issues/883",
            "https://github.com/NVIDIA/TensorRT/issues/3916",
            "https://github.com/NVIDIA-AI-IOT/torch2trt/issues/241",
            "https://github.com/pytorch/TensorRT/issues/344",
            "https://github.com/NVIDIA/TensorRT/issues/1660",
        ),
    ),
    KnownFailure(
        name="form-unsupported",
        patterns=(
            r"In function (?:import|check)(?P<op>(?!" + _NO_OPS + r")[A-Z]\w+):\s+"
            r"(?:\[[^\]\n]*\] )*\[\d+\] [^\n]+",
            r"\((?:import|check)(?P<op>(?!" + _NO_OPS + r")[A-Z]\w+)\): "
            r"(?:UNSUPPORTED|INVALID)_\w+: [^\n]+",
            r"In function \w+:\s+(?:\[[^\]\n]*\] )*\[\d+\] [^\n]*"
            r"(?:does(?:n't| not) support|not supported|only supports?)",
        ),
        cause="this TensorRT supports the op but not this form of it: an attribute, an input or a "
        "type. The text after 'Assertion failed' is the condition that does not hold",
        hint="rewrite that line of the model, or try a newer row. ./run doctor --model model.onnx "
        "shows every unsupported node. ONNX Runtime shows whether the file is valid",
        sources=(
            "https://github.com/onnxsim/onnxsim/issues/112",
            _RTX,
        ),
        general=True,
    ),
)
