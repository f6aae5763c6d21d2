"""What goes wrong when an engine or an ONNX file is loaded and run."""

from trtyard.known_failures.entry import KnownFailure

_RTX = "measured: TensorRT for RTX 1.7.1"
_RUNTIME = "measured: ONNX Runtime 1.32.0"

RUNNING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="engine-of-other-release",
        patterns=(
            r"engine plan file is not compatible with this version of TensorRT",
            r"Version tag does not match",
            r"stdVersionRead == serializationVersion",
            r"engine created with incompatible serialization version",
        ),
        affected=(),
        cause="an engine belongs to the very TensorRT that built it; this file is another one's, "
        "or no engine at all",
        hint="build it again with this TensorRT: ./run convert. model.engine.json beside it says "
        "what it was built with",
        sources=(
            "https://github.com/triton-inference-server/server/issues/317",
            "https://github.com/NVIDIA/TensorRT/issues/2983",
            "https://github.com/NVIDIA/TensorRT/issues/2195",
            "https://github.com/NVIDIA/retinanet-examples/issues/314",
            "https://github.com/smellslikeml/ActionAI/issues/17",
            _RTX,
        ),
    ),
    KnownFailure(
        name="engine-of-other-gpu",
        patterns=(
            r"generated on an incompatible device, expecting compute (?P<sm>\d+\.\d+)",
            r"engine plan file across different models of devices is not recommended",
        ),
        affected=(),
        cause="an engine belongs to the GPU that it was built on",
        hint="build it on this machine: ./run convert",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/564",
            "https://github.com/NVIDIA/TensorRT/issues/2176",
            "https://github.com/NVIDIA/TensorRT/issues/2900",
        ),
    ),
    KnownFailure(
        name="engine-plugin-missing",
        patterns=(
            r"could not find plugin:? (?P<op>\w+)[\s\S]{0,400}?[Dd]eserializ",
            r"IPluginCreator not found in Plugin Registry",
        ),
        affected=(),
        cause="the engine holds a plugin whose creator this process has not registered",
        hint="load the plugin's library before the engine: ctypes.CDLL(LIB), trt.init_libnvinfer_"
        "plugins for NVIDIA's own, --plugins for ./run convert and run-engine",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1913",
            "https://github.com/NVIDIA/TensorRT/issues/955",
            "https://github.com/enazoe/yolo-tensorrt/issues/157",
            "https://github.com/open-mmlab/mmdeploy/issues/2747",
        ),
    ),
    KnownFailure(
        name="engine-cut-short",
        patterns=(
            r"Cannot deserialize with an empty memory buffer",
            r"plan\.header\.size == blobSize failed",
        ),
        affected=(),
        cause="the engine file is empty or not whole",
        hint="compare its size with model.engine.json, and build or copy it again",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="input-outside-profile",
        patterns=(
            r"Static dimension mismatch while setting input shape",
            r"Supplied binding dimension \[[\d,]*\] for bindings\[\d+\] exceed min ~ max range",
            r"[Rr]untime dimension does not satisfy any optimization profile",
        ),
        affected=(),
        cause="the input has a size that the engine was not built for: it takes the one that was "
        "exported, or what lies between min and max of its profile",
        hint="resize the input to it, or build again with that size (./run convert --size, "
        "--input 1..8x3x224x224; trtexec --minShapes, --optShapes, --maxShapes)",
        sources=(
            "https://github.com/QwenAudio/CosyVoice/issues/901",
            "https://github.com/jamjamjon/usls/issues/212",
            "https://github.com/open-mmlab/mmdeploy/issues/1596",
            "https://github.com/grimoire/mmdetection-to-tensorrt/issues/97",
        ),
    ),
    KnownFailure(
        name="stream-capture",
        patterns=(
            r"operation not permitted when stream is capturing",
            r"operation would make the legacy stream depend on a capturing",
        ),
        affected=("any",),
        cause="something synchronises, allocates or copies while a CUDA graph is recorded: the "
        "first enqueue after a change of shapes, or a plugin's enqueue",
        hint="run once before recording; a plugin's enqueue may only put kernels into its stream",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/802",
            "https://github.com/NVIDIA/TensorRT/issues/1967",
            "https://github.com/NVIDIA/TensorRT/issues/3011",
            "https://github.com/NVIDIA/TensorRT/issues/4325",
        ),
    ),
    KnownFailure(
        name="onnx-for-one-parser",
        patterns=(
            r"with schema\(::TopK:1\d\) has input size 1 not in range",
            r"No Op registered for (?P<op>Range) with domain_version of (?:9|10)\b",
        ),
        affected=("any",),
        cause="the file is made for TensorRT 7.0's parser (TopK with an attribute k, Range at "
        "opset 10) and is not valid ONNX",
        hint="compare the unpatched export with ONNX Runtime instead; the patched one is for "
        "TensorRT 7.0 alone",
        sources=("measured: torch 1.4.0 with both patches, ONNX Runtime 1.1.0 and 1.32.0",),
    ),
    KnownFailure(
        name="onnxruntime-lacks-op",
        patterns=(
            r"Fatal error: (?P<op>[\w.:]+?)(?:\(-?\d+\))? is not a registered function/op",
            r"No Op registered for (?P<op>\w+) with domain_version of \d+",
        ),
        affected=("any",),
        cause="ONNX Runtime knows no op of that name in that domain and opset",
        hint="a custom op needs its library (register_custom_ops_library) or an ONNX function in "
        "the file, as trtyard's own have; a standard one needs the opset that brought it",
        sources=(
            "https://github.com/open-mmlab/mmdeploy/issues/756",
            "https://github.com/microsoft/onnxruntime/issues/8635",
            "https://github.com/microsoft/onnxruntime/issues/7788",
            "https://github.com/microsoft/onnxruntime/issues/9384",
            _RUNTIME,
        ),
    ),
    KnownFailure(
        name="onnxruntime-no-roi-align",
        patterns=(r"(?:implementation|kernel) for (?P<op>RoiAlign)\((?:2[2-9]|[3-9]\d)\)",),
        affected=("any",),
        cause="ONNX Runtime on the CPU has RoiAlign up to opset 21, and the file is of a newer one",
        hint="export at opset 16 to 21 (--opset 21), or use trtyard.pipeline.ops.roi_align, which "
        "runs at every opset",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="onnxruntime-no-kernel",
        patterns=(
            r"Could not find an implementation for (?:the node )?(?P<op>\w+)",
            r"Type Error: Type '[^']+' of input parameter \([^)\n]*\) of operator \((?P<op>\w+)\)",
        ),
        affected=("any",),
        cause="ONNX Runtime has the op, but not for these element types on the CPU",
        hint="compute in float32: leave out torch.autocast, .bfloat16() and .double(), or cast the "
        "op's inputs with .float()",
        sources=(
            "https://github.com/pytorch/pytorch/issues/148041",
            "https://github.com/microsoft/onnxruntime/issues/1760",
            _RUNTIME,
        ),
    ),
    KnownFailure(
        name="onnx-types-mixed",
        patterns=(
            r"Tensor element type mismatch\. \d+ != \d+",
            r"Type parameter \(\w+\) of Optype \((?P<op>\w+)\) bound to different types",
            r"Type \(tensor\(\w+\)\) of output arg \([^)\n]*\) of node \([^)\n]*\) does not match",
        ),
        affected=("any",),
        cause="the file was changed to another type (fp16) in part only: a node now gets two "
        "types, or an inner graph (If, Loop) still has the old one",
        hint="convert again with convert_float_to_float16(model, keep_io_types=True, "
        "op_block_list=[...]) of onnxruntime.transformers.float16 and block the ops that are "
        "named; or export the model in that type",
        sources=("https://github.com/microsoft/onnxruntime/issues/7981", _RUNTIME),
    ),
    KnownFailure(
        name="onnx-too-new",
        patterns=(
            r"Unsupported model IR version: \d+, max supported IR version: \d+",
            r"Opset \d+ is under development and support for this is limited",
        ),
        affected=("any",),
        cause="the file was written by a newer onnx than this ONNX Runtime knows",
        hint="export at the row's opset and with the row's onnx",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="input-of-other-shape",
        patterns=(r"Got invalid dimensions for input: (?P<node>\w+)",),
        affected=(),
        cause="the array has another shape than the file's input",
        hint="give the size it was exported for (--size, --input), or export it for a range: "
        "--input 1..8x3x224x224",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="input-of-other-type",
        patterns=(r"Unexpected input data type\. Actual: ",),
        affected=(),
        cause="the array has another element type than the file's input",
        hint="array.astype(numpy.float32); numpy makes float64 unless asked",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="engine-is-none",
        patterns=(r"'NoneType' object has no attribute '(?:create_execution_context|serialize)'",),
        affected=(),
        cause="TensorRT gave no engine and said why before this line",
        hint="look at the errors above it, or give their log to ./run explain",
        sources=("https://github.com/smellslikeml/ActionAI/issues/17", _RTX),
        general=True,
    ),
    KnownFailure(
        name="driver-missing-or-old",
        patterns=(r"CUDA driver version is insufficient for CUDA runtime version",),
        affected=(),
        cause="there is no NVIDIA driver here, or one older than this CUDA. TensorRT for RTX says "
        "so beside every other error too: it builds without a driver",
        hint="./run doctor   compares the driver with what the row needs",
        sources=(_RTX + " without a driver",),
        general=True,
    ),
)
