"""Failures of TensorRT's ONNX parser."""

from trtyard.core.machine_faults import ROI_ALIGN_WITHOUT_DRIVER
from trtyard.known_failures.entry import KnownFailure

_CHANGELOG = "https://github.com/onnx/onnx-tensorrt/blob/main/docs/Changelog.md"
_RTX = "measured: TensorRT for RTX 1.7.1"

PARSING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="topk-k-is-a-tensor",
        patterns=(r"\bimportTopK\b[\s\S]{0,120}?inputs\.at\(1\)\.is_weights\(\)",),
        affected=("tensorrt < 8.6",),
        cause="K of TopK is a tensor, and this parser needs a constant",
        hint="pass k to topk as a Python number. torch 1.4 always writes K as a tensor from opset "
        "10 on: use opset 9, or the row's patched exporter and parser",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/455",
            "https://github.com/onnx/onnx-tensorrt/issues/478",
            _CHANGELOG,
        ),
    ),
    KnownFailure(
        name="slice-by-values",
        patterns=(r"\bimportSlice\b[\s\S]{0,120}?axes\.(?:values|allValues)Known\(\)",),
        affected=("tensorrt < 10.3", "rtx"),
        cause="the network computes the bounds of a slice, most often from an NMS",
        hint="keep the size fixed: padded NMS (trtyard.ops.padded_nms) and a count",
        sources=(
            "https://github.com/BooHwang/segment_anything_tensorrt/issues/2",
            _CHANGELOG,
            _RTX + ": size-from-values",
        ),
    ),
    KnownFailure(
        name="fold",
        patterns=(r"In function check(?P<op>Col2Im):",),
        cause="F.fold and nn.Fold become Col2Im, which this TensorRT does not have",
        hint="with dilation 1, fold is a transposed convolution with an identity kernel: "
        "F.conv_transpose2d(u.reshape(n, c * k * k, rows, columns), torch.eye(c * k * "
        "k).reshape(c * k * k, c, k, k), stride=..., padding=...). rows x columns is the number "
        "of patches",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="dropout-in-training",
        patterns=(r"TensorRT does not support the (?P<op>Dropout) operator in training mode",),
        affected=("any",),
        cause="dropout is active in the file: F.dropout is active by default, and nn.Dropout in "
        "training mode",
        hint="F.dropout(x, p, training=self.training), and eval() before exporting",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="resize-antialias",
        patterns=(r"Antialiasing is not supported currently",),
        affected=("any",),
        cause="TensorRT's Resize has no antialiasing",
        hint="interpolate(..., antialias=False), or resize pictures before the network",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="size-from-values",
        patterns=(
            r"Assertion !isInFlight\(p\.second\.symbolicRep\) failed",
            r"is a shape tensor and must have type Int32 or Int64",
        ),
        affected=("rtx",),
        cause="a size (the end of a slice, the k of a TopK, the length of a Range) is computed "
        "from an input's values. TensorRT for RTX accepts only constants and shapes as sizes",
        hint="keep the size fixed at its largest possible value, and add a mask or a count",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="nonzero",
        patterns=(
            r"No importer registered for op: (?P<op>NonZero)\b",
            r"Searching for plugin: (?P<op>NonZero),",
            r"(?P<op>NonZero) plugin creator version 1 was not found",
        ),
        affected=("tensorrt < 8.5", "rtx"),
        cause="this TensorRT has no NonZero. It comes from nonzero(), from boolean indexing, and "
        "from torch.arange at opset 10 and before",
        hint="use masks with torch.where instead of removing rows, as the model faster_rcnn does. "
        "Export arange at opset 11",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/401",
            "https://github.com/NVIDIA/TensorRT/issues/2285",
            "https://github.com/PaddlePaddle/PaddleDetection/issues/6510",
            _RTX,
        ),
    ),
    KnownFailure(
        name="non-max-suppression",
        patterns=(
            r"No importer registered for op: (?P<op>NonMaxSuppression)\b",
            r"has no runners that implement it[\s\S]{0,300}op: (?P<op>NonMaxSuppression)\b",
            # The same in a process that did other work before.
            r"with inherently negative length[\s\S]{0,400}op: (?P<op>NonMaxSuppression)\b",
        ),
        affected=("tensorrt < 8.0", "rtx"),
        cause="this TensorRT has no NonMaxSuppression. 8.0 to 8.4 have an experimental one that "
        "pads its output, and 8.5 and newer support it natively",
        hint="use trtyard.ops.padded_nms, which becomes a plugin with a fixed output size",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/444",
            _CHANGELOG,
            _RTX,
        ),
    ),
    KnownFailure(
        name="nms-of-ones-own",
        patterns=(
            r"In function importNonMaxSuppression:[\s\S]{0,120}boxes tensor must be 3D",
            r"\(importNonMaxSuppression\)[\s\S]{0,120}boxes tensor must be 3D",
            r"boxes tensor must be 3D",
            r"Unrecognized attribute: \w+ for operator NonMaxSuppression",
        ),
        affected=("tensorrt >= 8.0", "rtx"),
        cause="a custom op is named NonMaxSuppression but has its own inputs. The built-in "
        "importer handles every op of that name, in any domain, and reads the wrong inputs",
        hint="give the op a name that ONNX does not have, such as PaddedNMS",
        sources=(_RTX, "measured: ONNX Runtime 1.32.0"),
    ),
    KnownFailure(
        name="roi-align-without-driver",
        patterns=ROI_ALIGN_WITHOUT_DRIVER,
        affected=("rtx",),
        cause="TensorRT for RTX implements RoiAlign as a plugin that needs the driver when it is "
        "created, and this machine has no driver",
        hint="parse on a machine with a GPU, or use trtyard.pipeline.ops.roi_align, which builds "
        "without a driver",
        sources=(_RTX + " without a driver",),
    ),
    KnownFailure(
        name="range-of-floats",
        patterns=(
            r"For range operator with dynamic inputs, this version of TensorRT only supports INT32",
        ),
        affected=("tensorrt < 8.4",),
        cause="a Range over floats has bounds that are not constant",
        hint="torch.arange(..., dtype=torch.int64), and cast the result",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/752",
            "https://github.com/open-mmlab/mmdeploy/issues/711",
            "https://github.com/PaddlePaddle/Paddle2ONNX/issues/779",
        ),
    ),
    KnownFailure(
        name="branches-differ",
        patterns=(
            r"IIfConditionalOutputLayer inputs must have the same shape",
            r"IConditionalOutputLayer \S+: Must have inputs with equal ranks",
        ),
        affected=("any",),
        cause="the two branches of an If return tensors of different shapes. torch writes such an "
        "If for squeeze of a dimension of unknown size, and for `if` in a scripted module",
        hint="export with fixed shapes, so that no If is written. Use [:, 0] instead of squeeze(1)",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1731",
            "https://github.com/NVIDIA/TensorRT/issues/2846",
            "https://github.com/NVIDIA/TensorRT/issues/4603",
            _RTX,
        ),
    ),
    KnownFailure(
        name="batched-nms-removed",
        patterns=(
            r"Plugin not found, are the plugin name[\s\S]{0,200}op: (?P<op>BatchedNMS\w*_TRT)",
            r"\[(?P<op>BatchedNMS\w*_TRT) -> [\s\S]{0,800}Plugin not found, are the plugin name",
        ),
        affected=("tensorrt >= 11.0", "rtx"),
        cause="TensorRT 11 removed the plugins BatchedNMS_TRT, and TensorRT for RTX never had "
        "them. Older releases need libnvinfer_plugin to be loaded (init_libnvinfer_plugins)",
        hint="export again with trtyard.ops.padded_nms",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="efficient-nms",
        patterns=(
            r"Plugin not found, are the plugin name[\s\S]{0,400}op: (?P<op>EfficientNMS\w*_TRT)",
            r"\[(?P<op>EfficientNMS\w*_TRT) -> [\s\S]{0,1200}Plugin not found, are the plugin name",
            r"could not find plugin:? (?P<op>EfficientNMS\w*_TRT)",
            r"Searching for plugin: (?P<op>EfficientNMS\w*_TRT),[\s\S]{0,400}Plugin not found, are",
        ),
        affected=("tensorrt < 8.0", "rtx"),
        cause="EfficientNMS_TRT is an NVIDIA plugin in libnvinfer_plugin from TensorRT 8.0 on. "
        "Older releases and TensorRT for RTX do not have it, and a program must load that library "
        "before it parses",
        hint="trt.init_libnvinfer_plugins(logger, '') before parsing (C++: "
        "initLibNvInferPlugins). trtexec does this itself. Or export with "
        "trtyard.ops.padded_nms, which every row supports",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/3734",
            "https://github.com/PaddlePaddle/PaddleDetection/issues/7399",
            "https://github.com/spacewalk01/tensorrt-yolov6/issues/6",
        ),
    ),
    KnownFailure(
        name="plugin-not-made",
        patterns=(
            r"Exception caught in create_plugin\(\)",
            r"In function addPluginWithCreator:[\s\S]{0,80}Could not create the plugin",
            r"Validation failed: [\s\S]{0,80}missing required fields",
        ),
        cause="the plugin's creator was found but refused to create a plugin with these attributes",
        hint="read its message on stderr, and compare the node's attributes with the plugin's "
        "contract (plugins/<op>/README.md for trtyard's)",
        sources=("https://github.com/Linaom1214/TensorRT-For-YOLO-Series/issues/80", _RTX),
    ),
    KnownFailure(
        name="einsum-capitals",
        patterns=(r"Invalid character\(s\) in (?P<op>Einsum) equation",),
        affected=("any",),
        cause="TensorRT's parser accepts only lowercase letters in an Einsum equation. ONNX, "
        "torch and ONNX Runtime also accept capitals",
        hint="write the equation in lowercase: bgid,bgjd->bgij instead of B G I D, B G J D -> B G "
        "I J. convert renames them",
        sources=(
            "https://github.com/onnx/onnx-tensorrt: DEFINE_OP_CHECKER(Einsum)",
            _RTX + ", torchvision's maxvit_t",
        ),
    ),
    KnownFailure(
        name="standard-op-unsupported",
        patterns=(
            r"Plugin not found, are the plugin name, version, and namespace correct",
            r"No importer registered for op: (?P<op>\w+)(?!\w*\. Attempting)",
            r"getPluginCreator could not find plugin:? (?P<op>\w+)",
            r"In function check(?P<op>[A-Z]\w+):\s+(?:\[\w+\] \[E\] \[TRT\] )?\[8\] false",
        ),
        op="standard",
        affected=("any",),
        cause="this TensorRT does not support the ONNX op. It then looks for a plugin of that "
        "name, but no plugin is missing",
        hint="write the model with ops that this TensorRT supports, or implement the op as a "
        "plugin",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/800",
            "https://github.com/NVIDIA/TensorRT/issues/1775",
            _CHANGELOG,
            _RTX,
        ),
        general=True,
    ),
    KnownFailure(
        name="plugin-not-loaded",
        patterns=(
            r"Plugin not found, are the plugin name, version, and namespace correct",
            r"No importer registered for op: (?P<op>\w+)(?!\w*\. Attempting)",
        ),
        op="custom",
        affected=("any",),
        cause="no plugin is registered under this name, version and namespace. Either the "
        "plugin's library is not loaded, or one of the three differs from the node's op type and "
        "its attributes plugin_version (default 1) and plugin_namespace (default empty)",
        hint="load the library before parsing (trtexec --plugins=LIB; ./run convert --plugins LIB) "
        "and compare the names that it registers. TensorRT 7.0 never looks for a plugin: its "
        "parser needs an importer",
        sources=(
            "https://github.com/open-mmlab/mmdeploy/issues/38",
            "https://github.com/open-mmlab/mmdeploy/issues/732",
            "https://github.com/open-mmlab/mmdeploy/issues/914",
            "https://github.com/open-mmlab/mmdeploy/issues/2758",
            "https://github.com/JosephChenHub/CenterNet-TensorRT/issues/21",
            _RTX,
        ),
        general=True,
    ),
    KnownFailure(
        name="plugin-or-op-unknown",
        patterns=(
            r"Plugin not found, are the plugin name, version, and namespace correct",
            r"No importer registered for op: (?P<op>\w+)(?!\w*\. Attempting)",
        ),
        affected=("any",),
        cause="this TensorRT has neither an importer nor a plugin for the op, and the log does "
        "not name the op",
        hint="find the op in the file: ./run explain LOG --onnx model.onnx",
        sources=("https://github.com/open-mmlab/mmdeploy/issues/2345",),
        general=True,
    ),
    KnownFailure(
        name="constant-needed",
        patterns=(
            r"Assertion failed: (?:inputs\.at\(\d\)|\w*_?input)\.is_weights\(\)",
            r"must resolve to a build-time constant",
            r"(?:squeeze|unsqueeze) axis is not a constant",
            r"\.is_weights\(\)\)?(?: &&|:) [^\n]{0,80}initializer",
            r"(?:input|value|tensor) (?:must|is required to) be an initializer",
        ),
        affected=("any",),
        cause="an input that must be a constant for this parser (axes, pads, scales) is computed",
        hint="fold constants: export with fixed shapes and do_constant_folding, or run "
        "polygraphy surgeon sanitize --fold-constants",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/682",
            "https://github.com/onnx/onnx-tensorrt/issues/708",
            "https://github.com/NVIDIA/TensorRT/issues/670",
            "https://github.com/NVIDIA/TensorRT/issues/4393",
            _RTX,
        ),
        general=True,
    ),
    KnownFailure(
        name="uint8-inside",
        patterns=(
            r"Unsupported ONNX data type: UINT8",
            r"does not support UINT8 types for intermediate tensors",
            r"Found unsupported datatype \(2\)",
        ),
        affected=("any",),
        cause="TensorRT does not compute in uint8. Up to 8.4 it does not know the type. From 8.5 "
        "on uint8 is allowed only for a network's input or output that is cast at once",
        hint="pass the picture to the network as float32. Inside, use bool or int32 for masks "
        "(torch before 1.2 gives uint8 for every comparison)",
        sources=(
            "https://github.com/onnx/onnx-tensorrt/issues/400",
            "https://github.com/JosephChenHub/CenterNet-TensorRT/issues/15",
            "https://github.com/JosephChenHub/CenterNet-TensorRT/issues/7",
            "https://github.com/NVIDIA/TensorRT/issues/1022",
            "https://github.com/NVIDIA/TensorRT/issues/1192",
            _CHANGELOG,
            _RTX,
        ),
    ),
    KnownFailure(
        name="weights-of-other-shape",
        patterns=(
            r"(?:kernel|bias|shift|scale) weights has count \d+ but \d+ was expected",
            r"count of \d+ weights in kernel, but kernel dimensions",
            r"Kernel weights are not set yet",
            r"Kernel weight dimension failed to broadcast to input",
        ),
        cause="the number of a layer's weights does not match its shape. In code that builds the "
        "network itself (tensorrtx, torch2trt), the checkpoint has another model size, number of "
        "classes or release than the code. In an ONNX file the graph itself is wrong",
        hint="compile with the checkpoint's classes, size and release. Run an ONNX file in ONNX "
        "Runtime first, which gives the same error with the node's name",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1753",
            "https://github.com/NVIDIA/TensorRT/issues/1314",
            "https://github.com/wang-xinyu/tensorrtx/issues/877",
            "https://github.com/NVIDIA-AI-IOT/trt_pose/issues/179",
            "https://github.com/NVIDIA/TensorRT/issues/2251",
            _RTX,
        ),
    ),
    KnownFailure(
        name="network-without-outputs",
        patterns=(r"Network must have at least one output",),
        cause="the network is empty or incomplete: the parser failed, and the program did not "
        "check what parse() returned. With TensorRT 7 and older, also a network created without "
        "EXPLICIT_BATCH",
        hint="look for the first error above, or print the errors: if not parser.parse(data): "
        "print(*(parser.get_error(i) for i in range(parser.num_errors)))",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/319",
            "https://github.com/NVIDIA/TensorRT/issues/183",
            "https://github.com/NVIDIA/TensorRT/issues/814",
            _RTX,
        ),
        general=True,
    ),
    KnownFailure(
        name="element-type-unknown",
        patterns=(
            r"Failed to convert ONNX date type to TensorRT data type",
            r"Unsupported ONNX data type: (?!UINT8\b|DOUBLE\b)\S+",
            r"Found unsupported datatype \((?!2\)|11\))\d+\)",
        ),
        affected=("any",),
        cause="a tensor has an element type that TensorRT does not support, such as strings or "
        "uint16",
        hint="keep such tensors out of the exported part: cast before the network and after it",
        sources=("https://github.com/NVIDIA/TensorRT/issues/3894", _RTX),
    ),
    KnownFailure(
        name="element-types-differ",
        patterns=(
            r"must have same input types\. But they are of types",
            r"requires inputs with type [^\n]{0,200}But type is \w+",
        ),
        affected=("tensorrt >= 11.0", "rtx"),
        cause="types come only from the file here, and an operation mixes two types or does not "
        "support its type",
        hint="cast in the model, so that both inputs have one type that the operation supports",
        sources=(_RTX,),
    ),
    KnownFailure(
        name="int64-cast-down",
        patterns=(
            r"generated with INT64 weights, while TensorRT does not natively support INT64",
            r"weights outside the range of INT32 was clamped",
        ),
        affected=("tensorrt < 9.0",),
        cause="this TensorRT casts INT64 to INT32 and clamps larger values. An example is the end "
        "of an open slice, which stays correct",
        hint="harmless unless the model computes with numbers beyond 2147483647",
        sources=("https://github.com/onnx/onnx-tensorrt/issues/682", _CHANGELOG),
        warning=True,
    ),
)
