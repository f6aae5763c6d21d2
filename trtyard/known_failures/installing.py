"""Failures while apt or pip installs TensorRT, CUDA or the Python packages."""

from trtyard.known_failures.entry import KnownFailure

_DEBIAN = "measured: Debian 12"
# Import names of the packages that a conversion from PyTorch to TensorRT needs.
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
        cause="no apt source has a package of that name for this distribution and architecture. "
        "TensorRT, cuDNN and CUDA come from NVIDIA's own source, on a Jetson from its JetPack "
        "release. apt knows a new source only after apt-get update",
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
        cause="TensorRT's packages require each other in the same version. apt takes the newest "
        "version of those that you do not name, and the versions conflict. CUDA's version is part "
        "of it (8.6.1.6-1+cuda12.0)",
        hint="pin them all: a file in /etc/apt/preferences.d with 'Package: tensorrt* libnvinfer* "
        "libnvonnxparsers* python3-libnvinfer*', 'Pin: version VERSION', 'Pin-Priority: 1001'. Or "
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
        cause="two files name the same apt source with different keys. Most often it is NVIDIA's: "
        "one file is from an older way to install it, one from cuda-keyring or the container "
        "toolkit",
        hint="grep -rE 'nvidia' /etc/apt/sources.list /etc/apt/sources.list.d shows both. Remove "
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
        cause="apt's index does not match its lists or packages: the mirror is being updated, or "
        "a proxy keeps an old file",
        hint="rm -rf /var/lib/apt/lists/*; apt-get update, and again after some minutes. Behind a "
        "proxy: apt-get -o Acquire::http::No-Cache=true update",
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
        cause="PyPI has only a placeholder under this name. The package itself is on NVIDIA's "
        "index, and only for some Pythons and platforms. nvidia-tensorrt is the old name: since "
        "8.5 it is tensorrt",
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
        hint="compare python -c 'import sys; print(sys.version)' with the project's list of "
        "files. Use a supported Python, another version, or its index with --extra-index-url. "
        "./run matrix shows which versions and Pythons work together",
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
        cause="the wheel's name gives its Python and processor (cp38, aarch64), and this pip "
        "belongs to another",
        hint="python3.8 -m pip install FILE with the Python in the name, or download the wheel "
        "for this Python. python -m pip debug --verbose lists the supported names",
        sources=(
            "https://github.com/NVIDIA-AI-IOT/jetcard/issues/47",
            "https://github.com/JuliaPy/CondaPkg.jl/issues/97",
            "https://github.com/Qengineering/TensorFlow-JetsonNano/issues/2",
        ),
    ),
    KnownFailure(
        name="pip-externally-managed",
        patterns=(r"error: externally-managed-environment",),
        cause="this Python belongs to the distribution, and pip must not overwrite its packages",
        hint="python3 -m venv .venv, then .venv/bin/pip install .... Or use ./run, which makes "
        "its own environments",
        sources=(_DEBIAN + "'s pip",),
    ),
    KnownFailure(
        name="python-package-missing",
        patterns=(rf"No module named '?(?:{_MODULES})\b",),
        cause="this Python does not have the package. It may be installed for another one: apt's "
        "and JetPack's tensorrt is only for the system's Python, and conda and virtual "
        "environments do not see it",
        hint="python -c 'import sys; print(sys.executable)' shows which Python runs. Install the "
        "package there, or make the environment with python3 -m venv --system-site-packages. "
        "./run convert makes a row's environment with all packages",
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
        cause="trtexec is not on PATH or not installed. TensorRT's Python packages do not contain "
        "it, and TensorRT for RTX names it tensorrt_rtx",
        hint="apt's package libnvinfer-bin and JetPack install it in /usr/src/tensorrt/bin: "
        "PATH=$PATH:/usr/src/tensorrt/bin. ./run convert builds engines without it",
        sources=(
            "https://github.com/wang-xinyu/tensorrtx/issues/620",
            "https://github.com/l-sf/Track-trt/issues/4",
            "https://github.com/dusty-nv/jetson-containers/issues/1576",
        ),
    ),
)
