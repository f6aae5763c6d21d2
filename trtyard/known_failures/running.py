"""Failures while an engine or an ONNX file is loaded and run."""

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
        cause="an engine runs only in the TensorRT release that built it. This file is from "
        "another release, or is not an engine",
        hint="build it again with this TensorRT: ./run convert. model.engine.json next to it "
        "names the release that built it",
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
        cause="an engine runs only on the kind of GPU that it was built on",
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
        cause="the engine contains a plugin whose creator is not registered in this process",
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
        cause="the engine file is empty or incomplete",
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
        cause="the engine was not built for this input size. It accepts the exported size, or "
        "sizes between min and max of its profile",
        hint="resize the input, or build again for this size (./run convert --size, "
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
        cause="something synchronizes, allocates or copies while a CUDA graph is recorded: the "
        "first enqueue after a change of shapes, or a plugin's enqueue",
        hint="run once before recording. A plugin's enqueue may only launch kernels on its stream",
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
        cause="the file is for TensorRT 7.0's parser (TopK with an attribute k, Range at opset "
        "10) and is not valid ONNX",
        hint="compare the unpatched export with ONNX Runtime instead. The patched export is only "
        "for TensorRT 7.0",
        sources=("measured: torch 1.4.0 with both patches, ONNX Runtime 1.1.0 and 1.32.0",),
    ),
    KnownFailure(
        name="onnxruntime-lacks-op",
        patterns=(
            r"Fatal error: (?P<op>[\w.:]+?)(?:\(-?\d+\))? is not a registered function/op",
            r"No Op registered for (?P<op>\w+) with domain_version of \d+",
        ),
        affected=("any",),
        cause="ONNX Runtime has no op of that name in that domain and opset",
        hint="a custom op needs its library (register_custom_ops_library) or an ONNX function in "
        "the file, as trtyard's ops have. A standard op needs the opset that added it",
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
        cause="ONNX Runtime on the CPU supports RoiAlign up to opset 21, and the file has a newer "
        "opset",
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
        hint="compute in float32: remove torch.autocast, .bfloat16() and .double(), or cast the "
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
        cause="only part of the file was converted to another type (fp16): a node now has inputs "
        "of two types, or a subgraph (If, Loop) still has the old one",
        hint="convert again with convert_float_to_float16(model, keep_io_types=True, "
        "op_block_list=[...]) of onnxruntime.transformers.float16 and block the named ops. Or "
        "export the model in that type",
        sources=("https://github.com/microsoft/onnxruntime/issues/7981", _RUNTIME),
    ),
    KnownFailure(
        name="onnx-too-new",
        patterns=(
            r"Unsupported model IR version: \d+, max supported IR version: \d+",
            r"Opset \d+ is under development and support for this is limited",
        ),
        affected=("any",),
        cause="a newer onnx wrote the file than this ONNX Runtime supports",
        hint="export at the row's opset and with the row's onnx",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="input-of-other-shape",
        patterns=(r"Got invalid dimensions for input: (?P<node>\w+)",),
        cause="the array's shape differs from the file's input",
        hint="use the size that the file was exported for (--size, --input), or export it for a "
        "range: --input 1..8x3x224x224",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="input-of-other-type",
        patterns=(r"Unexpected input data type\. Actual: ",),
        cause="the array's element type differs from the file's input",
        hint="array.astype(numpy.float32). numpy makes float64 by default",
        sources=(_RUNTIME,),
    ),
    KnownFailure(
        name="engine-is-none",
        patterns=(r"'NoneType' object has no attribute '(?:create_execution_context|serialize)'",),
        cause="TensorRT returned no engine. Its reason is above this line",
        hint="read the errors above, or pass their log to ./run explain",
        sources=("https://github.com/smellslikeml/ActionAI/issues/17", _RTX),
        general=True,
    ),
    KnownFailure(
        name="driver-missing-or-old",
        patterns=(r"CUDA driver version is insufficient for CUDA runtime version",),
        cause="the NVIDIA driver is missing or older than this CUDA needs. TensorRT for RTX logs "
        "this next to every other error too, because it builds without a driver",
        hint="./run doctor   compares the driver with what the row needs",
        sources=(_RTX + " without a driver",),
        general=True,
    ),
)
