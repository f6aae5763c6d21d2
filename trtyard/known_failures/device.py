"""Failures of the CUDA driver and the GPU in any program."""

from trtyard.known_failures.entry import KnownFailure

DEVICE: tuple[KnownFailure, ...] = (
    KnownFailure(
        name="no-cuda-device",
        patterns=(
            r"no CUDA-capable device is detected",
            r"CUDA_ERROR_NO_DEVICE",
            r"cuInit(?:\(0\))? (?:failed|returned)",
            r"No CUDA GPUs are available",
            r"libcuda\.so(?:\.1)?: cannot open shared object file",
        ),
        cause="CUDA finds no GPU: there is none, the driver is not loaded, the container was "
        "started without GPUs, or CUDA_VISIBLE_DEVICES hides it. In WSL, a libcuda other than "
        "Windows' may come first",
        hint="nvidia-smi must list the GPU; docker run --gpus all; echo $CUDA_VISIBLE_DEVICES. In "
        "WSL, remove NVIDIA's Linux driver and put /usr/lib/wsl/lib first in LD_LIBRARY_PATH. To "
        "build without a GPU, use a row of TensorRT for RTX",
        sources=(
            "https://github.com/microsoft/WSL/issues/9272",
            "https://github.com/inducer/pycuda/issues/276",
            "https://github.com/Genesis-Embodied-AI/genesis-world/issues/114",
            "https://github.com/karpathy/llm.c/issues/85",
        ),
    ),
    KnownFailure(
        name="driver-newer-than-its-module",
        patterns=(
            r"Driver/library version mismatch",
            r"API mismatch: the client has the version",
        ),
        cause="the driver was updated, but the kernel still runs the old module. Or a container "
        "or a second installation has another libnvidia-ml",
        hint="restart the machine. Without a restart: stop the programs that use the GPU, then "
        "sudo rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia; sudo modprobe nvidia",
        sources=("https://prodopsy.com/broken-nvidia-cuda-install",),
    ),
    KnownFailure(
        name="no-kernel-for-gpu",
        patterns=(
            r"no kernel image is available for execution",
            r"CUDA_ERROR_NO_BINARY_FOR_GPU",
            r"capability sm_(?P<sm>\d{2,3}) is not compatible with the current PyTorch",
        ),
        cause="the program's CUDA code was not compiled for this GPU: the GPU is newer than the "
        "program, or too old for it",
        hint="use a release that supports it: torch.cuda.get_arch_list() lists what torch "
        "supports, nvidia-smi --query-gpu=compute_cap --format=csv shows the GPU. Recompile your "
        "own kernels for it (TORCH_CUDA_ARCH_LIST, -arch), and trtyard's plugins with ./run "
        "plugins",
        sources=(
            "https://github.com/pytorch/pytorch/issues/54053",
            "https://github.com/thomasbrandon/mish-cuda/issues/10",
            "https://github.com/facebookresearch/detectron2/issues/235",
        ),
    ),
    KnownFailure(
        name="no-cuda-context",
        patterns=(
            r"invalid device context",
            r"explicit_context_dependent failed",
            r"CUDA_ERROR_INVALID_CONTEXT",
        ),
        cause="this thread has no CUDA context. pycuda.autoinit creates one only for the thread "
        "that imports it",
        hint="import pycuda.autoinit before anything else of pycuda. In another thread call "
        "context = pycuda.driver.Device(0).retain_primary_context(), context.push() at its start "
        "and context.pop() at its end. With torch, use only the primary context",
        sources=(
            "https://github.com/jkjung-avt/tensorrt_demos/issues/63",
            "https://github.com/inducer/pycuda/issues/250",
            "https://github.com/inducer/pycuda/issues/333",
        ),
    ),
    KnownFailure(
        name="illegal-memory-access",
        patterns=(
            r"an illegal memory access was encountered",
            r"CUDA_ERROR_ILLEGAL_ADDRESS",
            r"\bmisaligned address\b",
            r"device-side assert triggered",
        ),
        cause="a kernel read or wrote outside its memory. Most often a buffer is too small for "
        "the engine's shapes, is in CPU memory or was already freed. Otherwise a plugin or an "
        "index is wrong. CUDA reports it late, in a later call",
        hint="compare each buffer with the engine's shape and type (get_tensor_shape, "
        "get_tensor_dtype). compute-sanitizer COMMAND names the kernel, CUDA_LAUNCH_BLOCKING=1 "
        "the call",
        sources=(
            "https://github.com/NVIDIA/TensorRT/issues/2464",
            "https://github.com/NVIDIA/TensorRT/issues/1875",
            "https://github.com/open-mmlab/mmdeploy/issues/1645",
        ),
    ),
)
