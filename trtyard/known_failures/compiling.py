"""Failures while CUDA and C++ sources are compiled: the plugins, the parser, pycuda."""

from trtyard.core.machine_faults import COMPILER
from trtyard.known_failures.entry import KnownFailure

_NVCC = "measured: nvcc 13.0.88 with g++ 12.2"

COMPILING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="host-compiler-unsupported",
        patterns=COMPILER["host-compiler-unsupported"],
        cause="this nvcc checks the version of its C++ compiler, and the machine's compiler is "
        "too new (the message names the newest supported version)",
        hint="install an older compiler as well (apt-get install g++-12) and select it: "
        "NVCC_PREPEND_FLAGS='-ccbin g++-12' before the same command. A row's image has a "
        "supported one: ./run build. -allow-unsupported-compiler mostly gives other errors",
        sources=(
            "https://github.com/NVlabs/instant-ngp/issues/1562",
            "https://github.com/hank-ai/darknet/issues/129",
            _NVCC + ", told that it is 16",
        ),
    ),
    KnownFailure(
        name="host-compiler-missing",
        patterns=COMPILER["host-compiler-missing"],
        cause="nvcc does not find the C++ compiler that it calls",
        hint="sudo apt-get install g++ (g++-11 for Debian's nvcc 11.8), or correct the name after "
        "-ccbin and in NVCC_PREPEND_FLAGS",
        sources=(_NVCC,),
    ),
    KnownFailure(
        name="libc-too-new-for-cuda",
        patterns=COMPILER["libc-too-new-for-cuda"],
        cause="glibc 2.41 and newer declare cospi, sinpi and rsqrt differently from this CUDA's "
        "headers",
        hint="compile with an older glibc, for example in the row's image (./run build), or with "
        "a CUDA release that supports this glibc",
        sources=(
            "https://github.com/NVIDIA/cuda-samples/issues/378",
            "https://github.com/opencv/opencv/issues/27111",
            "https://github.com/NVIDIA/nccl/issues/1700",
        ),
    ),
    KnownFailure(
        name="gpu-architecture-unknown",
        patterns=COMPILER["gpu-architecture-unknown"],
        cause="this nvcc cannot compile for that GPU. A CUDA older than the GPU does not know it, "
        "and CUDA 13 removed GPUs before 7.5",
        hint="nvcc --list-gpu-arch lists the supported architectures. Use those, or a row with "
        "another CUDA",
        sources=(
            "https://github.com/facebookresearch/3detr/issues/59",
            "https://github.com/zai-org/VisualGLM-6B/issues/94",
            _NVCC,
        ),
    ),
    KnownFailure(
        name="tensorrt-headers-missing",
        patterns=COMPILER["tensorrt-headers-missing"],
        cause="the compiler does not find TensorRT's C++ headers. Neither TensorRT's Python "
        "packages nor those of TensorRT for RTX contain them",
        hint="./run plugins --headers DIR with the include folder of the same TensorRT release, "
        "from its package libnvinfer-headers-dev (libnvinfer-dev before 8.6) or its archive",
        sources=(
            "https://github.com/wang-xinyu/tensorrtx/issues/14",
            "https://github.com/wang-xinyu/tensorrtx/issues/1013",
            "https://github.com/enazoe/yolo-tensorrt/issues/106",
            "measured: g++ 12.2 and nvcc 13.0.88",
        ),
    ),
    KnownFailure(
        name="cuda-toolkit-not-whole",
        patterns=COMPILER["cuda-toolkit-not-whole"],
        cause="a part of the CUDA toolkit is missing. Wheels and Debian packages split the "
        "toolkit, and nvcc does not depend on all parts",
        hint="install the wheels of one release together: nvidia-cuda-nvcc, nvidia-cuda-crt, "
        "nvidia-nvvm (cicc), nvidia-cuda-runtime (cuda_runtime.h) and nvidia-cuda-cccl "
        "(nv/target). ./run makes a row's environment with all of them",
        sources=(_NVCC + ", each part taken away in turn",),
    ),
    KnownFailure(
        name="nvcc-not-found",
        patterns=COMPILER["nvcc-not-found"],
        cause="the build does not find nvcc, the CUDA compiler. The driver, torch and the runtime "
        "images do not contain it, and /usr/local/cuda/bin is not on PATH by default",
        hint="export PATH=/usr/local/cuda/bin:$PATH CUDACXX=/usr/local/cuda/bin/nvcc, or install "
        "the toolkit of your CUDA (images: the -devel tags). ./run plugins uses the row's own nvcc",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/619",
            "https://github.com/NVIDIA-AI-IOT/deepstream_tao_apps/issues/31",
            "https://github.com/onnx/onnx-tensorrt/issues/240",
            "https://github.com/NVIDIA-AI-IOT/deepstream_tao_apps/issues/65",
        ),
    ),
    KnownFailure(
        name="compiler-killed",
        patterns=COMPILER["compiler-killed"],
        cause="the system killed the process, nearly always because memory ran out. Compilers run "
        "in parallel",
        hint="check with `dmesg | grep -i oom`. Compile less at a time (make -j1, MAX_JOBS=1, "
        "NVCC_APPEND_FLAGS=--threads=1, fewer architectures), or give the container more memory",
        sources=(
            "https://github.com/microsoft/onnxruntime/issues/18579",
            "https://github.com/NVIDIA/cudf/issues/8018",
            "https://github.com/cms-sw/cmssw/issues/43117",
            _NVCC + ", ended by a limit on its time",
        ),
    ),
)
