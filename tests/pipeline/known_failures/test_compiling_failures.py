"""Each known failure of the CUDA compiler, provoked with the row's own nvcc."""

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from failing_models import first

from trtyard.core.error_file import VARIABLE, error_in
from trtyard.core.errors import EnvironmentLacksError, TrtyardError
from trtyard.core.plugins import cuda_compiler
from trtyard.core.plugins.compile_plugins import compile_plugins, find_nvcc
from trtyard.known_failures.advice import with_advice
from trtyard.pipeline.cli import main

SOURCES = Path(__file__).parents[3] / "plugins"
KERNEL = """
#include <cuda_fp16.h>
__global__ void fill(half* values) { values[threadIdx.x] = 1; }
"""


@pytest.fixture(scope="module")
def nvcc():
    try:
        found = find_nvcc()
        cuda_compiler.require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    return found


@pytest.fixture
def kernel(tmp_path):
    file = tmp_path / "kernel.cu"
    file.write_text(KERNEL)
    return file


@pytest.fixture
def row_file(tmp_path):
    """Return a file of a row's facts; only the GPU architectures matter here."""
    facts = {"name": "row", "tensorrt": "1", "flavour": "rtx", "exporter": "dynamo", "opset": 18}
    file = tmp_path / "row.json"
    file.write_text(json.dumps({**facts, "cuda": "13.0", "architectures": ["35"], "runs_on": []}))
    return file


def said(command, folder, **options):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **options)
    assert done.returncode != 0, "it was compiled"
    return done.stdout + done.stderr


def test_too_new_host_compiler_is_known(nvcc, kernel):
    # g++ claims a later version; the check and its message are nvcc's own.
    pretend = "-Xcompiler=-U__GNUC__,-D__GNUC__=99"
    words = said([nvcc, "-c", kernel, pretend], kernel.parent)
    assert first(words).failure.name == "host-compiler-unsupported"


def test_missing_host_compiler_is_known(nvcc, kernel):
    words = said([nvcc, "-c", kernel, "-ccbin", "no-such-g++"], kernel.parent)
    assert first(words).failure.name == "host-compiler-missing"


@pytest.mark.parametrize("architecture", ["sm_35", "compute_35"])
def test_unsupported_architecture_is_named(nvcc, kernel, architecture):
    explanation = first(said([nvcc, "-c", kernel, f"-arch={architecture}"], kernel.parent))
    assert explanation.failure.name == "gpu-architecture-unknown"
    assert explanation.capability == "3.5"


@pytest.mark.parametrize("compiler", ["nvcc", "g++"])
def test_missing_tensorrt_headers_are_known(nvcc, compiler, tmp_path):
    # nvcc knows its own headers, and takes a path with a comma in it for two.
    command = [nvcc] if compiler == "nvcc" else [compiler, f"-I{toolkit(nvcc) / 'include'}"]
    command += ["-Iinclude", "-I.", "-c", "common/registry_v3.cpp"]
    words = said([*command, "-o", tmp_path / "x.o"], SOURCES)
    assert first(words).failure.name == "tensorrt-headers-missing"


def toolkit(nvcc):
    return cuda_compiler.toolkit_of(nvcc)


@pytest.mark.parametrize(
    "part", ["nvvm", "include/crt", "include/cuda_runtime.h", "include/nv", "libcudart_static"]
)
def test_incomplete_toolkit_is_known(nvcc, kernel, part, tmp_path):
    whole, copy = toolkit(nvcc), tmp_path / "toolkit"
    if not (whole / "nvvm").is_dir():
        pytest.skip("this toolkit is laid out over the system's folders")
    shutil.copytree(whole, copy, symlinks=True, copy_function=os.symlink)
    if part == "libcudart_static":
        for library in copy.rglob("libcudart_static.a"):
            library.unlink()
        (tmp_path / "main.cu").write_text("int main() { return 0; }")
        command = [copy / "bin" / "nvcc", tmp_path / "main.cu", f"-L{copy / 'lib'}"]
    else:
        if not (copy / part).exists():
            pytest.skip(f"this toolkit has no {part}")
        shutil.rmtree(copy / part) if (copy / part).is_dir() else (copy / part).unlink()
        if part == "include/nv":
            shutil.rmtree(copy / "include" / "cccl", ignore_errors=True)
        command = [copy / "bin" / "nvcc", "-c", kernel]
    words = said(command, tmp_path)
    assert first(words).failure.name == "cuda-toolkit-not-whole"


def test_killed_compiler_is_known(nvcc, tmp_path):
    def limited():  # soft and hard the same: the kernel sends SIGKILL, as it does for memory
        resource.setrlimit(resource.RLIMIT_CPU, (1, 1))

    lines = (f"v[{n}] = sinf(v[{n + 1}]) * powf(v[0], {n});" for n in range(3000))
    calls = " ".join(lines)
    (tmp_path / "long.cu").write_text(f"__global__ void f(float* v) {{ {calls} }}")
    words = said([nvcc, "-c", "-O3", "long.cu"], tmp_path, preexec_fn=limited)
    assert first(words).failure.name == "compiler-killed"


def test_plugins_that_cannot_be_compiled_end_with_cause_and_hint(
    nvcc, row_file, tmp_path, capsys, monkeypatch
):
    words = ["plugins", "--row-file", str(row_file), "--sources", str(SOURCES)]
    words += ["--out", str(tmp_path / "x.so")]
    assert main(words) == EnvironmentLacksError.exit_code
    said = capsys.readouterr().err
    assert "Unsupported gpu architecture 'compute_35'" in said
    assert "./run explain -" in said
    # For the host, which adds what is known.
    monkeypatch.setenv(VARIABLE, str(tmp_path / "error.json"))
    assert main(words) == EnvironmentLacksError.exit_code
    assert capsys.readouterr().err == ""
    error = str(with_advice(error_in(tmp_path / "error.json")))
    assert "Unsupported gpu architecture 'compute_35'" in error
    assert "why: this nvcc cannot compile for that GPU" in error
    assert "nvcc --list-gpu-arch" in error


def test_compiler_errors_exit_with_3_or_4(nvcc, tmp_path, monkeypatch):
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "-Xcompiler=-U__GNUC__,-D__GNUC__=99")
    with pytest.raises(TrtyardError) as failure:
        compile_plugins(SOURCES, tmp_path / "x.so", ["80"])
    assert failure.value.exit_code == EnvironmentLacksError.exit_code
    assert "-ccbin g++-12" in with_advice(failure.value).hint

    broken = tmp_path / "plugins"
    shutil.copytree(SOURCES, broken)
    (broken / "common" / "status.cu").write_text("int f() { return nothing; }")
    monkeypatch.delenv("NVCC_APPEND_FLAGS")
    with pytest.raises(TrtyardError, match="nothing") as failure:
        compile_plugins(broken, tmp_path / "x.so", ["80"])
    assert failure.value.exit_code == 4
    assert "why:" not in with_advice(failure.value).message
