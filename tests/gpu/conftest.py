"""Fixtures of the tests that need a GPU. They run with any python3 that has torch and pytest:

    python3 -m pytest tests/gpu

TRTYARD_PLUGINS_LIBRARY names a library that is already compiled for this GPU. The tests of ONNX
Runtime need onnxruntime-gpu, and TRTYARD_ONNXRUNTIME_HEADERS=<folder with onnxruntime_cxx_api.h> or
TRTYARD_ONNXRUNTIME_LIBRARY=<a library that is compiled for this GPU>.
"""

import os
from pathlib import Path

import pytest
from gpu_kernels import Kernels

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import (
    LIBRARY_NAME,
    ONNXRUNTIME_LIBRARY_NAME,
    compile_plugins,
    find_nvcc,
)
from trtyard.core.plugins.cuda_compiler import require_host_compiler

SOURCES = Path(__file__).parents[2] / "plugins"


def why_no_gpu() -> "str | None":
    try:
        import torch
    except ImportError:
        return "torch is not installed in this Python"
    if not torch.cuda.is_available():
        return "no CUDA device on this machine"
    return None


@pytest.fixture(scope="session", autouse=True)
def gpu() -> None:
    reason = why_no_gpu()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def kernels(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    given = os.environ.get("TRTYARD_PLUGINS_LIBRARY")
    if given:
        return Kernels(Path(given))
    import torch

    try:
        find_nvcc()
        require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    major, minor = torch.cuda.get_device_capability()
    library = tmp_path_factory.mktemp("plugins") / LIBRARY_NAME
    return Kernels(compile_plugins(SOURCES, library, [f"{major}{minor}"]).library)


@pytest.fixture(scope="session")
def onnxruntime_library(gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the library of custom ops for an ONNX Runtime that has the CUDA provider."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDAExecutionProvider")
    given = os.environ.get("TRTYARD_ONNXRUNTIME_LIBRARY")
    headers = os.environ.get("TRTYARD_ONNXRUNTIME_HEADERS")
    if given:
        return Path(given)
    if not headers:
        pytest.skip("neither TRTYARD_ONNXRUNTIME_LIBRARY nor TRTYARD_ONNXRUNTIME_HEADERS is set")
    made = tmp_path_factory.mktemp("onnxruntime") / ONNXRUNTIME_LIBRARY_NAME
    return compile_plugins(SOURCES, made, ["native"], headers=Path(headers)).library
