"""Failures before any op matters: libraries, the driver, memory, files, a changed API."""

from trtyard.known_failures.entry import KnownFailure

_RTX = "measured: TensorRT for RTX 1.7.1"
_GONE = (
    "max_workspace_size|max_batch_size|build_cuda_engine|build_engine|fp16_mode|int8_mode|"
    "num_bindings|get_binding_\\w+|set_binding_shape|binding_is_input|execute_async|"
    "execute_async_v2|EXPLICIT_BATCH|FP16|INT8"
)
_GONE_IN_C = (
    "getNbBindings|getBinding\\w+|bindingIsInput|setBindingDimensions|enqueueV2|enqueue|"
    "setMaxWorkspaceSize|setMaxBatchSize|buildCudaEngine|buildEngineWithConfig|setFp16Mode|"
    "setInt8Mode|destroy|getMaxBatchSize"
)

SETTING_UP: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="desktop-library-missing",
        patterns=(
            r"lib(?:GL|EGL|xcb|X11|Xext|SM|ICE|gthread-2\.0|glib-2\.0)\.so[\w.]*: cannot open "
            r"shared object file",
        ),
        cause="a Python package, mostly opencv-python, needs a library for windows on a screen. "
        "Servers and images do not have it",
        hint="--with opencv-python-headless: it has the same module cv2 and does not need the "
        "library. trtyard then leaves opencv-python out. Elsewhere: pip uninstall opencv-python, "
        "then pip install opencv-python-headless",
        sources=(
            "https://github.com/ultralytics/ultralytics/issues/1270",
            "https://github.com/opencv/opencv-python/issues/370",
            "measured: opencv-python 5.0.0.93 in the image of row rtx-1.7",
        ),
    ),
    KnownFailure(
        name="library-not-found",
        patterns=(
            r"lib(?!cuda\.so)(?:nvinfer|nvonnxparser|nvparsers|cu[a-z]+|nvrtc|nvJitLink|nccl|tensorrt|"
            r"onnxruntime)\w*\.so[\w.]*: cannot open shared object file",
            r"Unable to load library: \S*nvinfer_builder_resource",
        ),
        cause="the loader does not find a library of exactly this name. The number after .so is "
        "the major release. Either TensorRT, CUDA or cuDNN has another release than needed (the "
        "Python package tensorrt contains only bindings), or the library's folder is not searched",
        hint="ldconfig -p | grep nvinfer   shows what is found. Add the folder of the right "
        "release to LD_LIBRARY_PATH. Or use a row's environment or image, where the releases "
        "match: ./run matrix",
        sources=(
            "https://github.com/open-mmlab/mmdeploy/issues/913",
            "https://github.com/wang-xinyu/tensorrtx/issues/1501",
            "https://github.com/open-mmlab/mmdeploy/issues/2594",
            "https://github.com/daswer123/xtts-finetune-webui/issues/18",
            "measured: the loader of glibc 2.36",
        ),
    ),
    KnownFailure(
        name="cuda-does-not-start",
        patterns=(
            r"(?i:cuda) initialization failure with error:? \d+",
            r"pybind11::init\(\): factory function returned nullptr",
        ),
        cause="TensorRT cannot start CUDA. The number is CUDA's error code: 35 the driver is "
        "missing or too old for this CUDA, 100 no GPU is visible, 2 GPU memory is full, 222 the "
        "code needs a newer driver, 999 often after the machine slept",
        hint="./run doctor   compares driver and GPU with the row. A container needs the GPUs "
        "(docker run --gpus all). For 999: sudo rmmod nvidia_uvm, sudo modprobe nvidia_uvm",
        sources=(
            "https://github.com/wang-xinyu/tensorrtx/issues/685",
            "https://github.com/linghu8812/tensorrt_inference/issues/173",
            "https://github.com/NVIDIA/TensorRT/issues/1052",
            "https://github.com/traveller59/torch2trt/issues/1",
            "https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html",
        ),
    ),
    KnownFailure(
        name="gpu-memory-full",
        patterns=(
            r"Error Code 2: OutOfMemory",
            r"Requested amount of (?:GPU )?memory \(\d+ bytes\) could not be allocated",
            r"Cuda Error in [\w:]*allocate: 2 \(out of memory\)",
            r"OutOfMemory Error in \w",
            r"CUDA out of memory\.",
            r"cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|CUBLAS_STATUS_ALLOC_FAILED",
            r"Failed to allocate memory for requested buffer of size",
        ),
        cause="the GPU does not have that much free memory. A build skips kernels that do not fit "
        "(Skipping tactic) and fails only if none is left",
        hint="nvidia-smi shows which processes use it. Then set a workspace below the free memory "
        "(--memPoolSize=workspace:1024), or use a smaller batch, smaller --maxShapes or fp16",
        sources=(
            "https://github.com/marcoslucianops/DeepStream-Yolo/issues/366",
            "https://github.com/VoltaML/voltaML-fast-stable-diffusion/issues/15",
            "https://github.com/NVIDIA-AI-IOT/torch2trt/issues/661",
            "https://github.com/NVIDIA/TensorRT/issues/477",
        ),
    ),
    KnownFailure(
        name="onnx-file-not-whole",
        patterns=(
            r"Error parsing text-format onnx2trt_onnx\.ModelProto",
            r"MODEL_DESERIALIZE_FAILED",
            r"Protobuf parsing failed",
            r"Could not open file \S+\.onnx",
        ),
        cause="the file is missing, truncated or not ONNX. With the message 'no field named "
        '"version"\', it is a Git LFS pointer',
        hint="check its size and beginning (ls -l, head -c 100). Run git lfs pull, or copy or "
        "export it again. onnx.load(FILE) shows whether it is complete",
        sources=(
            "https://github.com/NVIDIA-AI-IOT/CUDA-PointPillars/issues/1",
            "https://github.com/StephenYang190/rangenet_lib/issues/1",
            "https://github.com/onnx/onnx/issues/4392",
            "https://github.com/linghu8812/tensorrt_inference/issues/163",
            _RTX + " and ONNX Runtime 1.32.0",
        ),
    ),
    KnownFailure(
        name="weights-file-missing",
        patterns=(
            r"(?:onnx2trt_utils|WeightsContext|importerUtils)\.cpp:\d+: Failed to open file: ?",
            r"should be stored in \S+, but it doesn't exist or is not accessible",
            r"External data path (?:validation failed|does not exist|for initializer)[^\n]*",
            r"GetExtDataFromTensorProto|External initializer: [^\n]* offset",
            r"UnpackTensor: the pre-allocate size does not match",
        ),
        cause="the weights are in a second file (external data, as for models over 2 GB and with "
        "the dynamo exporter). It is not next to the ONNX file, has another name than the file "
        "gives, or is incomplete. A parser that gets only the bytes does not know the folder",
        hint="keep both files in one folder under their own names. Use "
        "parser.parse_from_file(PATH), or parse(data, path=PATH). onnx.save(onnx.load(PATH), NEW) "
        "makes one file of up to 2 GB. convert always writes one",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/586",
            "https://github.com/onnx/onnx-tensorrt/issues/818",
            "https://github.com/onnx/onnx-tensorrt/issues/542",
            "https://github.com/ELS-RD/transformer-deploy/issues/118",
            "measured: onnx 1.23.2, ONNX Runtime 1.32.0 and TensorRT for RTX 1.7.1",
        ),
    ),
    KnownFailure(
        name="plugin-library-without-creators",
        patterns=(
            r"SymbolAddress for (?:getCreators|getPluginCreators|setLoggerFinder) could not",
        ),
        cause="loadLibrary and --setPluginsToSerialize need the functions getCreators (TensorRT "
        "10), or getPluginCreators and setLoggerFinder, in the library. It has none and registers "
        "its plugins itself",
        hint="load it with dlopen or ctypes.CDLL instead (trtexec: --staticPlugins), or add these "
        'functions (extern "C"). ./run plugins makes libraries that have them',
        sources=("https://github.com/NVIDIA/TensorRT/issues/4121",),
    ),
    KnownFailure(
        name="engine-is-another-file",
        patterns=(
            r"Magic tag does not match",
            r"magicTag\w* == ?(?:kMAGIC_TAG|magicTag|rt::kPLAN_MAGIC_TAG) failed",
        ),
        cause="the file does not start like an engine of this TensorRT. Another TensorRT built it "
        "(two are installed, and LD_LIBRARY_PATH finds the other one), it is an ONNX file or a "
        "checkpoint, or it has a header before the engine (Ultralytics writes its metadata there)",
        hint="check that one release both builds and loads (ldd, LD_LIBRARY_PATH), and build it "
        "again: ./run convert. In an Ultralytics file, skip the metadata: a four-byte "
        "little-endian length, then that many bytes",
        sources=(
            "https://github.com/lix19937/tensorrt-insight/issues/65",
            "https://github.com/NVIDIA/TensorRT/issues/1384",
            "https://github.com/NVIDIA/TensorRT/issues/2915",
            "https://github.com/NVIDIA/TensorRT/issues/1596",
            "https://github.com/NVIDIA-AI-IOT/Lidar_AI_Solution/issues/271",
            "https://github.com/laugh12321/TensorRT-YOLO/issues/2",
        ),
    ),
    KnownFailure(
        name="tensorrt-api-gone",
        patterns=(
            rf"tensorrt\w*\.\w+' has no attribute '(?:{_GONE})'",
            rf"tensorrt\w*\.\w+' object has no attribute '(?:{_GONE})'",
            rf"nvinfer1::\w+[^\n]{{0,60}} has no member named .(?:{_GONE_IN_C})\b",
            rf"no member named .(?:{_GONE_IN_C}). in .nvinfer1::",
        ),
        cause="the script is for an older TensorRT. 8.0 removed max_workspace_size and "
        "build_cuda_engine of the builder. 10.0 removed bindings by number and the config's "
        "max_workspace_size. 11.0 and TensorRT for RTX removed precision flags, calibrators and "
        "EXPLICIT_BATCH",
        hint="config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, BYTES), "
        "builder.build_serialized_network, engine.num_io_tensors with get_tensor_name, "
        "context.set_tensor_address and execute_async_v3. Or run the script with a row of the "
        "release that it was written for",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/3816",
            "https://github.com/NVIDIA-AI-IOT/torch2trt/issues/557",
            "https://github.com/wang-xinyu/tensorrtx/issues/1555",
            "https://github.com/NVIDIA/trt-samples-for-hackathon-cn/issues/112",
            "https://docs.nvidia.com/deeplearning/tensorrt/migration-guide/index.html",
            _RTX,
        ),
    ),
    KnownFailure(
        name="numpy-too-new-for-tensorrt",
        patterns=(
            r"tensorrt/__init__\.py[\s\S]{0,600}module 'numpy' has no attribute 'bool'",
            r"\bnptype\b[\s\S]{0,600}module 'numpy' has no attribute 'bool'",
        ),
        affected=("tensorrt < 8.6",),
        cause="trt.nptype of TensorRT before 8.6 uses numpy.bool, which numpy 1.24 removed",
        hint="pin numpy < 1.24, as row 7.0's lock does",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2557",
            "https://github.com/NVIDIA/TensorRT/issues/2701",
        ),
    ),
)
