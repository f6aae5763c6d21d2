"""The plugins with an older nvcc than the row's, and Debian's nvcc wherever it was unpacked.

TRTYARD_OLD_NVCC names a folder with an older toolkit: ``bin/nvcc`` in it, or Debian's
nvidia-cuda-toolkit unpacked (docs/plugins.md).
"""

import ctypes
import os
import re
import subprocess
from pathlib import Path

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins import cuda_compiler
from trtyard.core.plugins.compile_plugins import compile_plugins, find_nvcc, shells_for

SOURCES = Path(__file__).parents[3] / "plugins"
VARIABLE = "TRTYARD_OLD_NVCC"
# The first without matrix units for bfloat16, and the one with bulk copies.
ARCHITECTURES = ["75", "90"]


def release_of(nvcc: Path) -> "tuple[int, ...]":
    words = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"release (\d+)\.(\d+)", words)
    assert found is not None, words
    return tuple(int(number) for number in found.groups())


def oldest_nvcc() -> Path:
    given = os.environ.get(VARIABLE)
    if given:
        found = cuda_compiler.nvcc_in(Path(given))
        assert found is not None, f"{VARIABLE}={given}: no bin/nvcc and no usr/bin/nvcc in it"
        return found
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    homes = [folder.parent for folder in folders] + sorted(Path("/usr/local").glob("cuda-*"))
    compilers = [nvcc for home in homes for nvcc in [cuda_compiler.nvcc_in(home)] if nvcc]
    try:
        newest = release_of(find_nvcc())
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    older = {nvcc: release_of(nvcc) for nvcc in compilers if release_of(nvcc) < newest}
    if not older:
        version = ".".join(map(str, newest))
        pytest.skip(f"no nvcc older than {version} is here; {VARIABLE} may name a folder with one")
    return min(older, key=lambda nvcc: older[nvcc])


@pytest.fixture(scope="module")
def old_nvcc() -> Path:
    nvcc = oldest_nvcc()
    try:
        cuda_compiler.require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    return nvcc


def test_every_unit_compiles_with_the_oldest_nvcc(old_nvcc: Path, tmp_path: Path) -> None:
    made = compile_plugins(SOURCES, tmp_path / "lib.so", ARCHITECTURES, nvcc=old_nvcc)
    library = ctypes.CDLL(str(made.library))
    library.trtyard_padded_nms_workspace.restype = ctypes.c_size_t
    assert library.trtyard_abi_version() == 4
    assert library.trtyard_padded_nms_workspace(1, 80, 1000, 100) > 0
    assert compile_plugins(SOURCES, made.library, ARCHITECTURES, nvcc=old_nvcc).cached


def test_the_v2_shells_compile_with_the_oldest_nvcc(old_nvcc: Path, tmp_path: Path) -> None:
    folders = [Path(one) for one in os.environ.get("TRTYARD_NVINFER_HEADERS", "").split(":") if one]
    folders = [folder for folder in folders if shells_for(folder) == "cpp-v2"]
    if not folders:
        pytest.skip("no headers of TensorRT 7 or 8: TRTYARD_NVINFER_HEADERS names none")
    for number, headers in enumerate(folders):
        library = tmp_path / f"{number}.so"
        compile_plugins(SOURCES, library, ["80"], nvcc=old_nvcc, headers=headers)
        assert b"MaskRcnnROIAlign" in library.read_bytes()


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """Debian's package, unpacked into a folder: scripts that tell how they were called."""
    root = tmp_path / "a toolkit"
    program = root / "usr" / cuda_compiler.DEBIAN_FOLDER / "bin" / "nvcc"
    for file, words in (
        (root / "usr" / "bin" / "nvcc", "exec /usr/lib/nvidia-cuda-toolkit/bin/nvcc"),
        (program, f"echo '#$ _HERE_={program.parent}'\ncudafe++\ng++ --version"),
        (program.with_name("g++"), "echo the one beside nvcc"),
        (root / "usr" / "bin" / "cudafe++", "echo the parts are found"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{words}\n")
        file.chmod(0o755)
    library = root / "usr" / "lib" / "x86_64-linux-gnu" / "libcudart_static.a"
    library.parent.mkdir()
    library.write_bytes(b"")
    return root


@pytest.mark.parametrize("home", [".", "usr"])
def test_debian_s_package_is_found_by_cuda_home(
    debian: Path, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_compiler.sys, "path", [])
    monkeypatch.setenv("CUDA_HOME", str(debian / home))
    assert find_nvcc() == debian / "usr" / "lib" / "nvidia-cuda-toolkit" / "bin" / "nvcc"


def test_debian_s_package_is_found_on_path(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_compiler.sys, "path", [])
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{debian / 'usr' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert find_nvcc() == debian / "usr" / "lib" / "nvidia-cuda-toolkit" / "bin" / "nvcc"


def test_debian_nvcc_gets_its_paths(debian: Path) -> None:
    nvcc = cuda_compiler.nvcc_in(debian)
    assert nvcc is not None
    usr = debian / "usr"
    assert cuda_compiler.toolkit_of(nvcc) == usr
    assert cuda_compiler.nvcc_command(nvcc) == [
        str(nvcc),
        "-ldir",
        str(usr / "lib" / "nvidia-cuda-toolkit" / "libdevice"),
        "-isystem",
        str(usr / "include"),
    ]
    assert cuda_compiler.include_folders(nvcc) == ["-isystem", str(usr / "include")]
    assert cuda_compiler.library_folders(nvcc) == [f"-L{usr / 'lib' / 'x86_64-linux-gnu'}"]
    said = cuda_compiler.run_compiler([str(nvcc)], debian)
    assert said.splitlines()[1:] == ["the parts are found", "the one beside nvcc"]
    beside = cuda_compiler.host_compiler(nvcc)
    assert cuda_compiler.run_compiler([beside], debian) == "the one beside nvcc\n"


def test_an_installed_toolkit_is_called_as_it_is() -> None:
    for nvcc in (Path("/opt/cuda/bin/nvcc"), Path("/usr/lib/nvidia-cuda-toolkit/bin/nvcc")):
        assert cuda_compiler.nvcc_command(nvcc) == [str(nvcc)]
    assert cuda_compiler.host_compiler(Path("/opt/cuda/bin/nvcc")) == "g++"


def test_old_nvcc_finds_its_toolkit_with_any_flags(old_nvcc, monkeypatch) -> None:
    expected = cuda_compiler.library_folders(old_nvcc)
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "--threads=0")  # as an image's build sets it
    assert cuda_compiler.library_folders(old_nvcc) == expected


def test_flags_for_all_calls_are_kept_from_the_dry_run(tmp_path: Path, monkeypatch) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text('#!/bin/sh\n[ -z "$NVCC_APPEND_FLAGS" ] && echo "#$ TOP=$PWD"\n')
    nvcc.chmod(0o755)
    monkeypatch.setenv("NVCC_APPEND_FLAGS", "--threads=0")
    assert cuda_compiler.toolkit_of(nvcc) == Path.cwd()
