"""Patterns of errors that are the machine's fault, not the model's.

They decide what becomes of a stage, so the pipeline needs them. Cause and fix of each are in
``trtyard.known_failures``, which takes the patterns from here.
"""

import re
from typing import Dict, Iterable, Tuple

# TensorRT for RTX makes RoiAlign of a plugin that asks the driver.
ROI_ALIGN_WITHOUT_DRIVER = (
    r"ROIAlign plugin was not found in the plugin registry",
    r"Cuda Error in ROIAlignV3: 35",
)

# Of a compiler's errors, by the known failure's name.
COMPILER: Dict[str, Tuple[str, ...]] = {
    "host-compiler-unsupported": (
        r"#error -- unsupported (?:GNU|clang) version!",
        r"unsupported (?:GNU|clang) version! \w+ versions later than \d+ are not supported",
    ),
    "host-compiler-missing": (
        r"Failed to preprocess host compiler properties",
        r"nvcc needs the C\+\+ compiler g\+\+, which is not on PATH",
        r"No supported gcc/g\+\+ host compiler found",
    ),
    "libc-too-new-for-cuda": (
        r"exception specification is incompatible with that of previous function "
        r"\"(?:cospi|sinpi|rsqrt)",
    ),
    "gpu-architecture-unknown": (
        r"Unsupported gpu architecture '(?:compute|sm)_(?P<sm>\d{2,3})[af]?'",
        r"Unsupported gpu architecture",
    ),
    "tensorrt-headers-missing": (r"fatal error: (?i:NvInfer)\w*\.h: ",),
    "cuda-toolkit-not-whole": (
        r"\bcicc: not found",
        r"fatal error: (?:crt/host_config|crt/host_defines|cuda_runtime|cuda_runtime_api|cuda|"
        r"cuda_fp16|nv/target)(?:\.h)?: ",
        r"cannot find -lcudart",
    ),
    "nvcc-not-found": (
        r"No CMAKE_CUDA_COMPILER could be found",
        r"CMAKE_CUDA_COMPILER-NOTFOUND",
        r"No CUDA toolset found",
        r"Couldn't find CUDA library root",
        r"\bnvcc(?:: command not found|: not found|: No such file or directory)",
        r"CUDA_HOME environment variable is not set",
        r"Failed to find nvcc",
    ),
    "compiler-killed": (
        r"'(?:cicc|cudafe\+\+|ptxas|nvlink)' died due to signal 9",
        r"fatal error: Killed signal terminated program",
        r"(?:^|\n)Killed[ \t]*(?:\n|$)",  # all that nvcc 13 says, where sh is dash
    ),
}


def shows(patterns: Iterable[str], log: str) -> bool:
    """Tell whether one of ``patterns`` is in ``log``."""
    return any(re.search(pattern, log) for pattern in patterns)
