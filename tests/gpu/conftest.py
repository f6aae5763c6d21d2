"""Fixtures of the tests that need a GPU. They run with any python3 that has torch and pytest:

    python3 -m pytest tests/gpu

TRTYARD_PLUGINS_LIBRARY names a library that is already compiled for this GPU.
"""

import os
from pathlib import Path

import pytest
from gpu_kernels import Kernels

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import LIBRARY_NAME, compile_plugins, find_nvcc
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
