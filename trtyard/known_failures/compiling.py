"""What goes wrong when CUDA and C++ sources are compiled: the plugins, the parser, pycuda."""

from trtyard.core.machine_faults import COMPILER
from trtyard.known_failures.entry import KnownFailure

_NVCC = "measured: nvcc 13.0.88 with g++ 12.2"

COMPILING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="host-compiler-unsupported",
        patterns=COMPILER["host-compiler-unsupported"],
        cause="this nvcc checks the version of the C++ compiler that it calls, and the machine's "
        "is too new for it (the message names the newest that it takes)",
        hint="install an older one beside it (apt-get install g++-12) and name it: "
        "NVCC_PREPEND_FLAGS='-ccbin g++-12' before the same command. A row's image has one that "
        "fits: ./run build. -allow-unsupported-compiler mostly gives other errors",
        sources=(
            "https://github.com/NVlabs/instant-ngp/issues/1562",
            "https://github.com/hank-ai/darknet/issues/129",
            _NVCC + ", told that it is 16",
        ),
    ),
    KnownFailure(
        name="host-compiler-missing",
        patterns=COMPILER["host-compiler-missing"],
        cause="nvcc calls a C++ compiler, and there is none of the name that it looks for",
        hint="sudo apt-get install g++ (Debian's nvcc 11.8 takes g++-11), or correct the name "
        "behind -ccbin and in NVCC_PREPEND_FLAGS",
        sources=(_NVCC,),
    ),
    KnownFailure(
        name="libc-too-new-for-cuda",
        patterns=COMPILER["libc-too-new-for-cuda"],
        cause="glibc 2.41 and newer declare cospi, sinpi and rsqrt otherwise than this CUDA's "
        "headers do",
        hint="compile where glibc is older, such as in the row's image: ./run build; or with a "
        "CUDA that knows this glibc",
        sources=(
            "https://github.com/NVIDIA/cuda-samples/issues/378",
            "https://github.com/opencv/opencv/issues/27111",
            "https://github.com/NVIDIA/nccl/issues/1700",
        ),
    ),
    KnownFailure(
        name="gpu-architecture-unknown",
        patterns=COMPILER["gpu-architecture-unknown"],
        cause="this nvcc cannot compile for that GPU: a CUDA from before the GPU does not know it "
        "yet, and CUDA 13 no longer knows those before 7.5",
        hint="nvcc --list-gpu-arch says which it knows; take those, or a row of another CUDA",
        sources=(
            "https://github.com/facebookresearch/3detr/issues/59",
            "https://github.com/zai-org/VisualGLM-6B/issues/94",
            _NVCC,
        ),
    ),
    KnownFailure(
        name="tensorrt-headers-missing",
        patterns=COMPILER["tensorrt-headers-missing"],
        cause="TensorRT's C++ headers are not where the compiler looks; neither its Python "
        "packages nor TensorRT for RTX's bring them",
        hint="./run plugins --headers DIR with the folder include of that very TensorRT: from its "
        "package libnvinfer-headers-dev (libnvinfer-dev before 8.6), or of the archive",
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
        cause="a part of the CUDA toolkit is missing: as wheels and as Debian packages it comes in "
        "pieces, and nvcc alone does not bring them",
        hint="the wheels of one release together: nvidia-cuda-nvcc, nvidia-cuda-crt, nvidia-nvvm "
        "(cicc), nvidia-cuda-runtime (cuda_runtime.h) and nvidia-cuda-cccl (nv/target); ./run "
        "makes a row's environment with all of them",
        sources=(_NVCC + ", each part taken away in turn",),
    ),
    KnownFailure(
        name="nvcc-not-found",
        patterns=COMPILER["nvcc-not-found"],
        cause="the build looks for nvcc, the CUDA compiler, and does not find it: the driver, "
        "torch and the runtime images do not bring it, and /usr/local/cuda/bin is not on PATH by "
        "itself",
        hint="export PATH=/usr/local/cuda/bin:$PATH CUDACXX=/usr/local/cuda/bin/nvcc, or install "
        "the toolkit of your CUDA (images: the -devel tags). ./run plugins compiles with the "
        "row's own",
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
        cause="the system ended the process, nearly always because memory ran out; compilers run "
        "several at once",
        hint="look with `dmesg | grep -i oom`; compile less at a time (make -j1, MAX_JOBS=1, "
        "NVCC_APPEND_FLAGS=--threads=1, fewer architectures), or give the container more memory",
        sources=(
            "https://github.com/microsoft/onnxruntime/issues/18579",
            "https://github.com/NVIDIA/cudf/issues/8018",
            "https://github.com/cms-sw/cmssw/issues/43117",
            _NVCC + ", ended by a limit on its time",
        ),
    ),
)
