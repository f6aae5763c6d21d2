"""Failures of libraries and Python packages whose releases do not match."""

from trtyard.known_failures.entry import KnownFailure

_CUDA = r"lib(?:cublas\w*|cusparse\w*|cusolver\w*|cudnn\w*|cufft\w*|nvJitLink|nvrtc\w*|cudart)\b"

LIBRARIES: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="torchvision-of-other-torch",
        patterns=(
            r"operator torchvision::\w+ does not exist",
            r"No such operator torchvision::\w+",
            r"Couldn't load custom C\+\+ ops",
            r"PyTorch and torchvision were compiled with different CUDA",
        ),
        cause="this torchvision was compiled for another torch than the installed one, so its ops "
        "are not registered",
        hint="install both together from one index: pip install torch==VERSION "
        "torchvision==VERSION. ./run matrix shows matching versions, and a row's environment has "
        "them",
        sources=(
            "https://github.com/pytorch/pytorch/issues/122494",
            "https://github.com/fudan-generative-vision/hallo/issues/98",
            "https://github.com/ZQPei/deep_sort_pytorch/issues/189",
        ),
    ),
    KnownFailure(
        name="numpy-of-other-major",
        patterns=(
            r"compiled using NumPy 1\.x cannot be run in",
            r"AttributeError: _ARRAY_API not found",
            r"numpy\.core\.multiarray failed to import",
            r"numpy\.\w+ size changed, may indicate binary incompatibility",
        ),
        cause="a package was compiled for another major release of NumPy than the installed one. "
        "Many older packages support only NumPy 1",
        hint="pip install 'numpy<2', or a newer release of the package that the traceback names "
        "(onnxruntime 1.19 or newer, torch 2.3 or newer)",
        sources=(
            "https://github.com/microsoft/onnxruntime/issues/21063",
            "https://github.com/dusty-nv/jetson-containers/issues/1374",
            "https://github.com/NVIDIA/Model-Optimizer/issues/87",
        ),
    ),
    KnownFailure(
        name="onnxruntime-without-cuda",
        patterns=(
            r"Failed to load library \S*onnxruntime_providers_\w+\.(?:so|dll)",
            r"Failed to create (?:CUDA|Tensorrt|NvTensorRTRTX)ExecutionProvider",
            r"(?:CUDA|Tensorrt)ExecutionProvider' is not in available provider names",
        ),
        cause="ONNX Runtime cannot load its GPU provider and continues on the CPU. The name after "
        "'with error' is the library that it does not find. Each release needs one CUDA and one "
        "cuDNN release (libcublasLt.so.11 is CUDA 11, libcudnn.so.9 is cuDNN 9). The package "
        "onnxruntime has no GPU provider at all",
        hint="install the onnxruntime-gpu for your CUDA and cuDNN (its page on execution "
        "providers has the table). import torch first, or call onnxruntime.preload_dlls(), to "
        "find the libraries of pip's nvidia packages. trtyard itself compares on the CPU",
        sources=(
            "https://github.com/microsoft/onnxruntime/issues/21684",
            "https://github.com/microsoft/onnxruntime/issues/19616",
            "https://github.com/stepfun-ai/Step-Audio-EditX/issues/3",
            "https://github.com/microsoft/onnxruntime/issues/17537",
        ),
    ),
    KnownFailure(
        name="cuda-libraries-mixed",
        patterns=(
            r"undefined symbol: __nvJitLink\w+",
            rf"{_CUDA}[\w.]*: undefined symbol",
            rf"{_CUDA}[\w.]*: symbol \w+,? version \S+ not defined in file",
            r"undefined symbol: (?:cublas|cudnn|cusparse|cusolver|nvrtc|nccl)\w+",
        ),
        cause="one process mixes two releases of CUDA's libraries: one comes from pip or conda, "
        "but the loader finds a library of another release first, most often through "
        "LD_LIBRARY_PATH",
        hint="unset LD_LIBRARY_PATH and try again. ldd FILE shows which libraries are found. "
        "Otherwise reinstall torch with its nvidia packages into its own environment, such as a "
        "row's",
        sources=(
            "https://github.com/pytorch/pytorch/issues/134929",
            "https://github.com/infiniflow/ragflow/issues/4466",
            "https://github.com/naver/dust3r/issues/198",
            "https://github.com/ultralytics/ultralytics/issues/10203",
            "https://github.com/microsoft/onnxruntime/issues/8594",
        ),
    ),
    KnownFailure(
        name="tensorrt-libraries-mixed",
        patterns=(
            r"undefined symbol: (?:get(?:Builder)?PluginRegistry|createInfer\w+|createNv\w+)",
            r"undefined symbol: _Z\w*(?:nvinfer1|nvonnxparser|TRTPlugin)",
            r"lib(?:nvinfer|nvonnxparser)\w*\.so[\d.]*: undefined symbol",
        ),
        cause="a library or plugin is for another TensorRT release than the loaded libnvinfer. Or "
        "no libnvinfer is loaded yet, and the plugin is not linked to it",
        hint="ldd FILE | grep nvinfer shows which one is found. Let LD_LIBRARY_PATH point to one "
        "release only. Compile the plugin for that release with -lnvinfer, or import tensorrt "
        "before ctypes.CDLL",
        sources=(
            "https://github.com/wang-xinyu/tensorrtx/issues/492",
            "https://github.com/NVIDIA/TensorRT/issues/1987",
            "https://github.com/NVIDIA/TensorRT/issues/3810",
            "https://github.com/triton-inference-server/server/issues/3734",
            "https://github.com/NVIDIA/Model-Optimizer/issues/34",
        ),
    ),
    KnownFailure(
        name="system-too-old",
        patterns=(
            r"version [`'](?:GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+' not found",
            r"_ZNSt\w+: symbol not found",
        ),
        cause="the file was compiled on a newer Linux and needs a newer C or C++ library than "
        "this one has. For GLIBCXX and CXXABI, an older libstdc++ (conda's) may also come first "
        "in the search path",
        hint="run it on a newer system, for example in an image, or use a build for this one. For "
        "GLIBCXX: conda install -c conda-forge libstdcxx-ng, or unset LD_LIBRARY_PATH",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1124",
            "https://github.com/ultralytics/ultralytics/issues/21757",
            "https://github.com/microsoft/onnxruntime/issues/20588",
        ),
    ),
    KnownFailure(
        name="thread-storage-full",
        patterns=(r"cannot allocate memory in static TLS block",),
        cause="a library needs static thread-local storage and is loaded late, when the small "
        "reserve is used up. With glibc before 2.32 on Arm (Jetson) it is nearly always libgomp",
        hint="load it first: set LD_PRELOAD=FILE with the file that the message names. In Python, "
        "import torch, cv2 or sklearn before the others",
        sources=(
            "https://github.com/NVIDIA-AI-IOT/torch2trt/issues/563",
            "https://github.com/NVIDIA-AI-IOT/trt_pose/issues/111",
            "https://github.com/CMU-cabot/cabot/issues/86",
        ),
    ),
)
