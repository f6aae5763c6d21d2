"""What goes wrong when apt or pip is to install TensorRT, CUDA or the Python packages."""

from trtyard.known_failures.entry import KnownFailure

_DEBIAN = "measured: Debian 12"
# Modules of packages that the way from PyTorch to TensorRT needs, as import names them.
_MODULES = (
    "tensorrt\\w*|torch|torchvision|torch2trt|torch_tensorrt|onnx|onnxscript|onnx_ir|onnxruntime|"
    "onnxsim|onnx_graphsurgeon|polygraphy|pycuda|cuda|cupy|cv2|numpy|uff|graphsurgeon|tf2onnx"
)

INSTALLING: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="apt-package-unknown",
        patterns=(
            r"\bE: Unable to locate package \S+",
            r"\bE: Package '[^']+' has no installation candidate",
            r"\bE: Couldn't find any package by (?:glob|regex) ",
        ),
        cause="none of apt's sources has a package of that name for this distribution and "
        "architecture. TensorRT, cuDNN and CUDA come from NVIDIA's own source, on a Jetson from "
        "that of its JetPack release; without apt-get update apt does not know a new source",
        hint="sudo apt-get update; apt-cache policy PACKAGE shows what the sources have. Install "
        "NVIDIA's cuda-keyring for this distribution, on a Jetson nvidia-jetpack. A row needs none "
        "of these packages on the host: ./run convert",
        sources=(
            "https://github.com/dusty-nv/jetson-containers/issues/175",
            "https://github.com/lix19937/tensorrt-insight/issues/42",
            _DEBIAN,
        ),
    ),
    KnownFailure(
        name="apt-versions-do-not-fit",
        patterns=(
            r"[Yy]ou have held broken packages",
            r"The following packages have unmet dependencies",
            r"E: Held packages were changed and -y was used",
            r"but it is not going to be installed",
        ),
        cause="TensorRT's packages want each other in the very same version. apt takes the newest "
        "of those that are not named, and then they do not fit; CUDA's version is part of it "
        "(8.6.1.6-1+cuda12.0)",
        hint="pin them all: a file in /etc/apt/preferences.d with 'Package: tensorrt* libnvinfer* "
        "libnvonnxparsers* python3-libnvinfer*', 'Pin: version VERSION', 'Pin-Priority: 1001'; or "
        "name every package with =VERSION. apt-cache policy libnvinfer-dev lists the versions",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/3774",
            "https://github.com/NVIDIA/TensorRT/issues/1741",
            "https://github.com/tensorflow/tensorflow/issues/31417",
            "https://github.com/autowarefoundation/autoware/issues/6389",
        ),
    ),
    KnownFailure(
        name="apt-source-named-twice",
        patterns=(r"E: Conflicting values set for option Signed-By regarding source",),
        cause="two files name the same apt source with different keys, most often NVIDIA's: one "
        "from an older way to install it, one of cuda-keyring or the container toolkit",
        hint="grep -rE 'nvidia' /etc/apt/sources.list /etc/apt/sources.list.d shows both; remove "
        "the older one (cuda.list, nvidia-docker.list, a line in sources.list), then apt-get "
        "update",
        sources=(
            "https://github.com/NVIDIA/nvidia-docker/issues/1626",
            "https://github.com/NVIDIA/libnvidia-container/issues/194",
            "https://github.com/NVIDIA/cuda-repo-management/issues/4",
        ),
    ),
    KnownFailure(
        name="apt-index-out-of-step",
        patterns=(r"File has unexpected size \(\d+ != \d+\)", r"Hash Sum mismatch"),
        cause="apt got an index and a list or package of another moment: the mirror is being "
        "updated, or a proxy keeps an old file",
        hint="rm -rf /var/lib/apt/lists/*; apt-get update, and again in some minutes; behind a "
        "proxy apt-get -o Acquire::http::No-Cache=true update",
        sources=("https://github.com/NVIDIA/nvidia-docker/issues/1631",),
    ),
    KnownFailure(
        name="pip-placeholder",
        patterns=(
            r"(?:requirement|distribution found for) nvidia-tensorrt\b",
            r"\(from versions: 0\.0\.1\.dev4, 0\.0\.1\.dev5\)",
            r"RuntimeError: Bad params",
            r"ModuleNotFoundError: No module named 'package_info'",
            r"tensorrt-0\.0\.1\.tar\.gz",
        ),
        cause="PyPI has only a placeholder under this name; the package itself is on NVIDIA's "
        "index, for some Pythons and platforms only. nvidia-tensorrt is the old name: since 8.5 "
        "it is tensorrt",
        hint="pip install tensorrt==VERSION --extra-index-url https://pypi.nvidia.com, with a "
        "Python that the release supports and a new pip. TensorRT for RTX is on PyPI itself: "
        "./run convert",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/1426",
            "https://github.com/gpastal24/ViTPose-Pytorch/issues/6",
            "https://github.com/NVIDIA/TensorRT-LLM/issues/1804",
            "https://github.com/Limitex/ComfyUI-Diffusers/issues/19",
            "https://github.com/NVIDIA/TensorRT/issues/2896",
        ),
    ),
    KnownFailure(
        name="pip-nothing-fits",
        patterns=(
            r"No matching distribution found for \S+",
            r"Could not find a version that satisfies the requirement \S+",
            r"No solution found when resolving dependencies",
        ),
        cause="the index has no file of that version for this Python, system and processor, or the "
        "package is on another index (NVIDIA's, PyTorch's)",
        hint="python -c 'import sys; print(sys.version)' and the project's list of files tell. "
        "Take a Python that it supports, another version, or its index with --extra-index-url. "
        "./run matrix shows which versions and Pythons fit together",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2933",
            "https://github.com/NVIDIA/TensorRT/issues/2963",
            "measured: pip 23.0 and uv 0.13",
        ),
        general=True,
    ),
    KnownFailure(
        name="wheel-for-other-python",
        patterns=(r"\.whl is not a supported wheel on this platform",),
        cause="the wheel's name says for which Python and processor it is (cp38, aarch64), and "
        "this pip belongs to another",
        hint="python3.8 -m pip install FILE with the Python that the name says, or the wheel for "
        "this one; python -m pip debug --verbose lists what fits",
        sources=(
            "https://github.com/NVIDIA-AI-IOT/jetcard/issues/47",
            "https://github.com/JuliaPy/CondaPkg.jl/issues/97",
            "https://github.com/Qengineering/TensorFlow-JetsonNano/issues/2",
        ),
    ),
    KnownFailure(
        name="pip-externally-managed",
        patterns=(r"error: externally-managed-environment",),
        cause="this Python belongs to the distribution, whose packages pip must not overwrite",
        hint="python3 -m venv .venv, then .venv/bin/pip install ...; or ./run, which makes its own "
        "environments",
        sources=(_DEBIAN + "'s pip",),
    ),
    KnownFailure(
        name="python-package-missing",
        patterns=(rf"No module named '?(?:{_MODULES})\b",),
        cause="the Python that runs here does not have this package. It may be installed for "
        "another one: apt's and JetPack's tensorrt is for the system's Python only, and neither "
        "conda nor a virtual environment sees it",
        hint="python -c 'import sys; print(sys.executable)' shows which one runs; install the "
        "package there, or make the environment with python3 -m venv --system-site-packages. "
        "./run convert makes a row's environment with all of them",
        sources=(
            "https://github.com/dusty-nv/jetson-containers/issues/1576",
            "https://github.com/EdwardoSunny/Jetson-Nano-YOLOv8-Setup/issues/1",
            "https://github.com/NVIDIA-AI-IOT/trt_pose/issues/93",
            "https://github.com/wang-xinyu/tensorrtx/issues/344",
            _DEBIAN + "'s Python 3.11",
        ),
    ),
    KnownFailure(
        name="trtexec-not-found",
        patterns=(
            r"\btrtexec(?:: command not found|: not found|: No such file or directory)",
            r"'trtexec' is not recognized as",
        ),
        cause="trtexec is not on PATH or not installed: the Python packages of TensorRT do not "
        "bring it, and TensorRT for RTX calls it tensorrt_rtx",
        hint="apt's package libnvinfer-bin and JetPack put it into /usr/src/tensorrt/bin: "
        "PATH=$PATH:/usr/src/tensorrt/bin. ./run convert builds engines without it",
        sources=(
            "https://github.com/wang-xinyu/tensorrtx/issues/620",
            "https://github.com/l-sf/Track-trt/issues/4",
            "https://github.com/dusty-nv/jetson-containers/issues/1576",
        ),
    ),
)
