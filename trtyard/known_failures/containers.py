"""Failures of Docker and NVIDIA's container runtime while they pull or start a container."""

from trtyard.known_failures.entry import KnownFailure

_DOCKER = "measured: Docker 28.5.2"

CONTAINERS: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="docker-without-gpu-runtime",
        patterns=(
            r"could not select device driver \"\w*\" with capabilities: \[\[",
            r"[Uu]nknown (?:or invalid )?runtime (?:specified|name):? \"?nvidia",
            r"failed to discover GPU vendor",
            r"unresolvable CDI devices? nvidia\.com/gpu",
        ),
        cause="the command requests GPUs (--gpus, --runtime=nvidia), but Docker has no NVIDIA "
        "runtime: the NVIDIA Container Toolkit is not installed, not configured for this Docker, "
        "or Docker was not restarted afterwards",
        hint="sudo apt-get install nvidia-container-toolkit; sudo nvidia-ctk runtime configure "
        "--runtime=docker; sudo systemctl restart docker. Without an NVIDIA GPU, remove --gpus: "
        "./run convert requests GPUs only if Docker offers them",
        sources=(
            "https://github.com/NVIDIA/nvidia-docker/issues/1034",
            "https://github.com/NVIDIA/nvidia-docker/issues/838",
            "https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/"
            "install-guide.html",
        ),
    ),
    KnownFailure(
        name="container-without-driver",
        patterns=(
            r"nvidia-container-cli: (?:initialization|detection|ldcache|device) error",
            r"load library failed: libnvidia-ml\.so",
            r"WSL environment detected but no adapters were found",
            r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
        ),
        cause="the NVIDIA Container Toolkit is installed, but the machine has no NVIDIA driver, "
        "or the driver is not loaded. Containers use the machine's driver",
        hint="run nvidia-smi outside the container. If it fails too, install the driver and "
        "restart the machine. For WSL, install the driver in Windows and none in WSL (wsl "
        "--update)",
        sources=(
            "https://github.com/NVIDIA/libnvidia-container/issues/231",
            "https://github.com/docker/for-win/issues/13835",
        ),
    ),
    KnownFailure(
        name="driver-too-old-for-image",
        patterns=(
            r"unsatisfied condition: (?:cuda|driver|brand) ?[<>=]+",
            r"nvidia-container-cli: requirement error",
        ),
        cause="the image requires a driver for its CUDA release, and this machine's driver is "
        "older",
        hint="update the driver, or use an image (a row: ./run matrix) with an older CUDA. If the "
        "driver has the same major CUDA release, NVIDIA_DISABLE_REQUIRE=1 skips the check",
        sources=(
            "https://github.com/NVIDIA/nvidia-container-toolkit/issues/152",
            "https://github.com/SyneRBI/PETRIC2/issues/27",
            "https://github.com/NVIDIA/nvidia-docker/issues/1442",
        ),
    ),
    KnownFailure(
        name="docker-socket-denied",
        patterns=(
            r"permission denied while trying to connect to the [Dd]ocker",
            r"dial unix \S+\.sock: connect: permission denied",
        ),
        cause="only root and members of the group docker may use Docker's socket",
        hint="sudo usermod -aG docker $USER, then log in again. Or use sudo for this one command",
        sources=(
            "https://github.com/docker-library/postgres/issues/1124",
            "https://github.com/tomsik68/docker-xampp/issues/63",
        ),
    ),
    KnownFailure(
        name="docker-not-running",
        patterns=(
            r"Cannot connect to the Docker daemon at",
            r"failed to connect to the docker API at",
            r"Is the docker daemon running\?",
        ),
        cause="no Docker answers at this address: it is not running, or DOCKER_HOST or the Docker "
        "context points elsewhere",
        hint="sudo systemctl start docker; docker context ls and echo $DOCKER_HOST show the "
        "address",
        sources=(_DOCKER + " with DOCKER_HOST at an address where nothing listens",),
    ),
    KnownFailure(
        name="registry-wants-login",
        patterns=(
            r"unauthorized: (?:authentication|access|incorrect)",
            r"failed to (?:authorize|fetch (?:anonymous|oauth) token)(?![^\n]*(?:dial tcp|x509:))",
            r"pull access denied for \S+",
            r"denied: requested access to the resource is denied",
            r"no basic auth credentials",
        ),
        cause="the registry refuses the image: it needs a login, the saved login is wrong or "
        "expired, this user has no access, or no image has that name",
        hint="docker logout HOST, then docker login HOST. For nvcr.io the user is $oauthtoken and "
        "the password an NGC API key. Check the name: Docker looks for a name without a host on "
        "Docker Hub, which does not have images built here",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/82",
            "https://github.com/NVIDIA/TensorRT-LLM/issues/419",
            "https://github.com/NVIDIA/workbench-llamafactory/issues/2",
            "https://github.com/haanjack/openpose-trt-optimize/issues/2",
        ),
    ),
    KnownFailure(
        name="registry-limits-pulls",
        patterns=(r"\btoomanyrequests\b", r"You have reached your (?:\w+ )?pull rate limit"),
        cause="the registry limits pulls per address or user, and the limit is reached",
        hint="docker login, which raises the limit; wait; or name a mirror in mirrors.toml "
        "(docs/offline.md)",
        sources=("https://docs.docker.com/docker-hub/usage/pulls/",),
    ),
    KnownFailure(
        name="image-of-other-architecture",
        patterns=(
            r"exec format error",
            r"no matching manifest for \S+ in the manifest list",
            r"no match for platform in manifest",
            r"cannot execute binary file",
        ),
        cause="the image or program is for another processor: most often x86-64 on an Arm machine "
        "such as a Jetson",
        hint="compare docker image inspect -f '{{.Architecture}}' IMAGE with uname -m. For a "
        "Jetson, use NVIDIA's l4t images. The rows of versions.toml are for x86-64",
        sources=(
            "https://github.com/NVIDIA/nvidia-docker/issues/1116",
            "https://github.com/FoundationVision/ByteTrack/issues/162",
            "https://github.com/linghu8812/tensorrt_inference/issues/144",
        ),
    ),
    KnownFailure(
        name="network-unreachable",
        patterns=(
            r"dial tcp\b[^\n]*(?:no such host|i/o timeout|refused|unreachable|server misbehaving)",
            r"Temporary failure (?:in name resolution|resolving)",
            r"Could not resolve (?:host|'[^']+')",
            r"Name or service not known|Network is unreachable",
            r"\bdns error\b|Failed to establish a new connection|NameResolutionError",
        ),
        cause="this machine cannot reach the server: there is no network, the name is not "
        "resolved, or this program does not know the proxy. Docker pulls with its own settings, "
        "not with the shell's",
        hint="set HTTPS_PROXY and NO_PROXY for the program (for Docker in its service or in "
        "~/.docker/config.json), or name reachable mirrors in mirrors.toml (docs/offline.md)",
        sources=(_DOCKER + " and uv 0.13 without a network",),
    ),
    KnownFailure(
        name="disk-full",
        patterns=(r"[Nn]o space left on device", r"[Dd]isk quota exceeded"),
        cause="a file system is full. It may not be the one you work in: Docker, pip and uv keep "
        "their files elsewhere",
        hint="df -h shows which one. docker system df, ./run clean and pip cache info show what "
        "uses it",
        sources=("measured: Python 3.11 writing to /dev/full",),
    ),
)
