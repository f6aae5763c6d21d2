"""Compile the library of ONNX Runtime's custom ops, with its CPU kernels only.

ONNX Runtime's headers must be given: TRTYARD_ONNXRUNTIME_HEADERS=<folder with
onnxruntime_cxx_api.h>. ``./run test`` does that.
"""

import os
import subprocess
from pathlib import Path

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import ONNXRUNTIME_FLAGS, SHELL_FLAGS, find_nvcc
from trtyard.core.plugins.cuda_compiler import include_folders

VARIABLE = "TRTYARD_ONNXRUNTIME_HEADERS"
SOURCES = Path(__file__).parents[2] / "plugins"
# In place of the kernels, which a session on the CPU never calls.
STUBS = (
    "trtyard_padded_nms",
    "trtyard_padded_nms_workspace",
    "trtyard_roi_align",
    "trtyard_roi_align_workspace",
    "trtyard_multiscale_roi_align",
    "trtyard_multiscale_roi_align_workspace",
)
STUB = "void {name}(void) {{ __builtin_trap(); }}\n"
STATUS = 'const char* trtyard_status_string(int s) { return s ? "bad" : "ok"; }\n'


def library_for_the_cpu(folder):
    """Return the library; skip the test if the headers or nvcc's are not there."""
    headers = os.environ.get(VARIABLE)
    if not headers:
        pytest.skip(f"{VARIABLE} does not name a folder with onnxruntime_cxx_api.h")
    try:
        cuda = include_folders(find_nvcc())
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    made = folder / "libtrtyard_ort.so"
    stubs = folder / "stubs.c"
    stubs.write_text("".join(STUB.format(name=name) for name in STUBS) + STATUS, encoding="utf-8")
    compiled = folder / "stubs.o"
    subprocess.run(["gcc", "-fPIC", "-c", str(stubs), "-o", str(compiled)], check=True)
    command = ["g++", *SHELL_FLAGS, *ONNXRUNTIME_FLAGS, "-Werror", "-Iinclude", "-I."]
    command += ["-isystem", headers, *cuda, "-shared", "-Wl,--no-undefined"]
    command += ["common/registry_ort.cpp", str(compiled), "-o", str(made)]
    subprocess.run(command, check=True, cwd=str(SOURCES))
    return made
