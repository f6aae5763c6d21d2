"""Failures of TensorRT's builder."""

from trtyard.known_failures.entry import KnownFailure

_RTX = "measured: TensorRT for RTX 1.7.1"

BUILDING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="topk-limit",
        patterns=(
            r"(?P<node>[^\s():]+): K exceeds the maximum value allowed",
            r"K exceeds the maximum value allowed",
        ),
        affected=("any",),
        cause="TensorRT's TopK returns at most 3840 values, in every release",
        hint="lower k (for a detector --top-n), or split the TopK in two: take the first 3840, "
        "overwrite them with -1e30 by a scatter, and take the rest with a second TopK",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/4244",
            "https://github.com/NVIDIA/TensorRT/issues/4390",
            "https://github.com/open-mmlab/mmdeploy/issues/2236",
            _RTX,
        ),
    ),
    KnownFailure(
        name="dilated-deconvolution",
        patterns=(r"Strided & Dilated Deconv",),
        cause="TensorRT has no transposed convolution with both a stride and a dilation",
        hint="put zeros between the kernel's values instead: w = weight.new_zeros(i, o, (k - 1) * "
        "d + 1, (k - 1) * d + 1); w[..., ::d, ::d] = weight. With this kernel, dilation 1 gives "
        "the same result",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="nms-over-4096-boxes",
        patterns=(
            r"Assertion failed: status == STATUS_SUCCESS\s[\s\S]{0,120}batchedNMSPlugin",
            r"batchedNMSPlugin\.cpp,\d+",
            r"trt_batched_nms\.cpp,\d+",
        ),
        affected=("any",),
        cause="the NMS plugins sort in a buffer of fixed size. With topK above 4096 (5000 in some "
        "releases) they fail or write beyond it",
        hint="set topK to 4096 or less, or use trtyard.ops.padded_nms, which has no limit",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/893",
            "https://github.com/NVIDIA/TensorRT/issues/959",
            "https://github.com/NVIDIA/TensorRT/issues/3111",
            "https://github.com/NVIDIA/TensorRT/issues/2160",
        ),
    ),
    KnownFailure(
        name="no-profile",
        patterns=(r"dynamic or shape inputs, but no optimization profile has been defined",),
        affected=("any",),
        cause="an input has no fixed shape, or is itself a shape (axes, sizes)",
        hint="export with fixed shapes, or give convert the range: --input 1..8x3x224x224. trtexec "
        "takes --minShapes, --optShapes and --maxShapes",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="int8-without-scales",
        patterns=(
            r"Calibration failure occurr?ed with no scaling factors detected",
            r"Int8 mode specified but no calibrator specified",
        ),
        cause="int8 is enabled or an input is int8, but the ranges of the tensors are unknown: "
        "there is no calibrator, it returned no data, or only parts of the file have "
        "QuantizeLinear and DequantizeLinear",
        hint="quantize the ONNX file instead (ONNX Runtime's quantize_static with QDQ, NVIDIA's "
        "Model Optimizer), which works in every row without a flag. Or give the builder a "
        "calibrator with real inputs. Remove --int8 if you do not need int8",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2865",
            "https://github.com/ELS-RD/transformer-deploy/issues/43",
            "https://github.com/NVIDIA/TensorRT/issues/1326",
            "https://github.com/CaoWGG/TensorRT-CenterNet/issues/7",
        ),
    ),
    KnownFailure(
        name="fp16-overflow",
        patterns=(
            r"layernorm after self-attention (?:in|with) FP16[^\n]* may cause overflow",
            r"FP32 values which would overflow in FP16",
            r"weights are affected by this issue: Detected",
        ),
        cause="fp16 numbers end at 65504. Sums of squares in a LayerNorm, or larger weights, "
        "become infinite or are clipped, and results may be wrong",
        hint="export at opset 17 or later, where LayerNorm is one op that TensorRT computes "
        "accurately. Or keep these layers in fp32 (--precisionConstraints=obey "
        "--layerPrecisions=NAME:fp32; from TensorRT 10 on, mixed types in the file), or use bf16. "
        "Compare the outputs with fp32",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2564",
            "https://github.com/NVIDIA/TensorRT/issues/3101",
            "https://github.com/pytorch/TensorRT/issues/4061",
        ),
        warning=True,
    ),
    KnownFailure(
        name="turing-fp32-matmul",
        patterns=(r"for Turing \(SM75\): FP32 GEMM is not supported",),
        affected=("rtx",),
        cause="TensorRT for RTX has no fp32 matrix product for compute capability 7.5",
        hint="build for 8.0 or newer, or use fp16 weights and inputs",
        sources=(
            _RTX,
            "https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/getting-started/"
            "support-matrix.html",
        ),
    ),
    KnownFailure(
        name="attention-without-kernel",
        patterns=(r"(?P<op>Attention) operation was not supported by a dedicated kernel",),
        affected=("rtx",),
        cause="opset 23 has the op Attention, and TensorRT builds it only if one kernel covers "
        "all of it. TensorRT for RTX has no such kernel for fp32",
        hint="export at opset 22 or earlier, where attention is MatMul and Softmax. Or set "
        "IAttention.decomposable in the network, as convert does",
        sources=(
            "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/"
            "work-with-transformers.html",
            _RTX + ", torchvision's vit_b_16 from the dynamo exporter at opset 23",
        ),
    ),
    KnownFailure(
        name="gpu-unsupported",
        patterns=(
            r"Unsupported SM: 0x(?P<sm_hex>[0-9a-f]+)",
            r"[Tt]arget GPU (?:SM|sm) (?P<sm>\d{2,3}) is not supported by this TensorRT release",
            r"Unsupported SM\b",
            r"TensorRT-RTX does not support this compute capability",
        ),
        affected=("any",),
        cause="this TensorRT has no kernels for the GPU, which is too new or too old for it",
        hint="use a row whose engines run on it: ./run matrix. ./run doctor checks it in advance",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2332",
            "https://github.com/NVIDIA/TensorRT/issues/2727",
            "https://github.com/NVIDIA/TensorRT/issues/3826",
            "https://github.com/DDTRobot/tita_rl_sim2sim2real/issues/7",
            "https://github.com/wang-xinyu/tensorrtx/issues/819",
            "measured: TensorRT for RTX 1.7.1 on compute capability 9.0",
        ),
    ),
    KnownFailure(
        name="no-implementation",
        patterns=(r"[Cc]ould not find any implementation for node (?P<node>.{1,200}?)\.?\)",),
        affected=("any",),
        cause="no kernel fits. Most often the workspace is too small, sometimes this release does "
        "not support a fused part",
        hint="look for 'insufficient memory' above, and raise the workspace "
        "(--memPoolSize=workspace:4096). Otherwise try a newer release",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1766",
            "https://github.com/NVIDIA/TensorRT/issues/1768",
            "https://github.com/NVIDIA/TensorRT/issues/1917",
            "https://github.com/onnx/onnx-tensorrt/issues/758",
        ),
        general=True,
    ),
    KnownFailure(
        name="no-runner",
        patterns=(r"(?P<node>\S+) has no runners that implement it",),
        affected=("rtx",),
        cause="the parser supports the op, but the builder has no kernel for it. "
        "NonMaxSuppression is one such op, although supports_operator returns True",
        hint="write it with other ops. ./run doctor --model model.onnx lists every such node",
        sources=(_RTX,),
        general=True,
    ),
    KnownFailure(
        name="library-link-missing",
        patterns=(r"terminate called without an active exception",),
        cause="with a registered plugin, the parser of TensorRT for RTX opens libtensorrt_rtx.so. "
        "Its wheel contains only libtensorrt_rtx.so.1, and the process aborts (exit code 134)",
        hint="ln -s libtensorrt_rtx.so.1 libtensorrt_rtx.so   in the folder tensorrt_rtx_libs. "
        "trtyard's environments already have this link",
        sources=(_RTX,),
    ),
)
