"""The standard ONNX ops, and the TensorRT releases that support them."""

# Every op that the standard domain has or had, from onnx 1.23.2. A test compares it with onnx.
_STANDARD_OPS = """
Abs Acos Acosh Add AffineGrid And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool
BatchNormalization Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
BlackmanWindow Cast CastLike CausalConvWithState Ceil Celu CenterCropPad Clip Col2Im
Compress Concat ConcatFromSequence Constant ConstantOfShape Conv ConvInteger ConvTranspose
Cos Cosh CumProd CumSum DFT DeformConv DepthToSpace DequantizeLinear Det Div Dropout
DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GridSample GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish
Hardmax Identity If ImageDecoder InstanceNormalization IsInf IsNaN LRN LSTM
LayerNormalization LeakyRelu Less LessOrEqual LinearAttention Log LogSoftmax Loop
LpNormalization LpPool MatMul MatMulInteger Max MaxPool MaxRoiPool MaxUnpool Mean
MeanVarianceNormalization MelWeightMatrix Min Mish Mod Mul Multinomial Neg
NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement
OptionalHasElement Or PRelu Pad Pow QLinearConv QLinearMatMul QuantizeLinear
RMSNormalization RNN RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence
RoiAlign RotaryEmbedding Round STFT Scan Scatter ScatterElements ScatterND Selu SequenceAt
SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap
Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus
Softsign SpaceToDepth Split SplitToSequence Sqrt Squeeze StringConcat StringNormalizer
StringSplit Sub Sum SwiGLU Swish Tan Tanh TensorScatter TfIdfVectorizer ThresholdedRelu Tile
TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
"""
STANDARD_OPS = frozenset(_STANDARD_OPS.split())

# The first full TensorRT whose ONNX parser supports the op. Earlier ones look for a plugin.
# From https://github.com/onnx/onnx-tensorrt: docs/Changelog.md and, for OneHot and Reciprocal, the
# tables of docs/operators.md for 8.4 and 8.5.
NATIVE_FROM = {
    "Celu": "8.0",
    "CumSum": "8.0",
    "EyeLike": "8.0",
    "GatherElements": "8.0",
    "GreaterOrEqual": "8.0",
    "LessOrEqual": "8.0",
    "LpNormalization": "8.0",
    "LpPool": "8.0",
    "ReverseSequence": "8.0",
    "Einsum": "8.2",
    "GatherND": "8.2",
    "IsNaN": "8.2",
    "Round": "8.2",
    "Scatter": "8.2",
    "ScatterElements": "8.2",
    "ScatterND": "8.2",
    "Sign": "8.2",
    "Shrink": "8.4",
    "Xor": "8.4",
    "GridSample": "8.5",
    "MeanVarianceNormalization": "8.5",
    "Mod": "8.5",
    "NonMaxSuppression": "8.5",
    "NonZero": "8.5",
    "OneHot": "8.5",
    "RandomNormal": "8.5",
    "Reciprocal": "8.5",
    "RoiAlign": "8.5",
    "Trilu": "8.5",
    "GroupNormalization": "8.6",
    "IsInf": "8.6",
    "LayerNormalization": "8.6",
    "Hardmax": "9.2",
    "DeformConv": "10.1",
    "BlackmanWindow": "10.4",
    "HammingWindow": "10.4",
    "HannWindow": "10.4",
    "STFT": "10.5",
}

# Standard ops that the parser or builder of TensorRT for RTX 1.7.1 supports in no form, measured
# by parsing and building onnx's node tests without a GPU.
_RTX_LACKS = """
AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
CausalConvWithState CenterCropPad Col2Im Compress ConcatFromSequence ConvInteger CumProd DFT
DeformConv Det DynamicQuantizeLinear ImageDecoder LinearAttention MatMulInteger MaxUnpool
MelWeightMatrix NegativeLogLikelihoodLoss NonMaxSuppression NonZero OptionalHasElement
QLinearConv QLinearMatMul RegexFullMatch SequenceEmpty SequenceInsert SequenceMap
SoftmaxCrossEntropyLoss SplitToSequence StringConcat StringNormalizer StringSplit SwiGLU
TfIdfVectorizer Unique
"""
RTX_LACKS = frozenset(_RTX_LACKS.split())


def lacking(op: str) -> tuple[str, ...]:
    """Return the ranges of toolchains known not to support a standard op; empty if unknown."""
    ranges = []
    if op in NATIVE_FROM:
        ranges.append(f"tensorrt < {NATIVE_FROM[op]}")
    if op in RTX_LACKS:
        ranges.append("rtx")
    return tuple(ranges)


def outside_of(op: str) -> tuple[str, ...]:
    """Return the ranges outside which a standard op is known to be supported; empty if unknown."""
    return lacking(op) if op in NATIVE_FROM else ()
