"""The C++ V2 shells, as far as they go without a GPU. TensorRT's headers must be given:

TRTYARD_NVINFER_HEADERS=<folder with NvInfer.h of 7.0 to 8.6>[:<another release's>...]
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.plugins.compile_plugins import (
    SHELL_LIBRARY_NAME_V2,
    compile_plugins,
    find_nvcc,
    shells_for,
)
from trtyard.core.plugins.cuda_compiler import require_host_compiler, toolkit_of

pytest.importorskip("torch")

VARIABLE = "TRTYARD_NVINFER_HEADERS"
HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "plugins"
OPS = {
    "PaddedNMS": 4,
    "MaskRcnnROIAlign": 6,
    "MultiscaleRoIAlign": 11,
}  # attributes, of four bytes each


def given_headers() -> "list[Any]":
    folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    folders = [folder for folder in folders if shells_for(Path(folder)) == "cpp-v2"]
    reason = f"{VARIABLE} does not name a folder with the headers of TensorRT 7.0 to 8.6"
    return folders or [pytest.param("", marks=pytest.mark.skip(reason=reason))]


@pytest.fixture(scope="module", params=given_headers())
def headers(request: pytest.FixtureRequest) -> Path:
    try:
        find_nvcc()
        require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    return Path(request.param)


@pytest.fixture(scope="module")
def library(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shells") / SHELL_LIBRARY_NAME_V2
    compile_plugins(SOURCES, made, ["80"], headers=headers)
    return made


@pytest.fixture(scope="module")
def answers(headers: Path, library: Path) -> "dict[str, Any]":
    driver = [sys.executable, str(HERE / "drive_plugin_harness.py")]
    done = subprocess.run(
        [*driver, str(headers), str(library), str(library.parent)], check=False,
        capture_output=True, text=True,
        cwd=str(HERE.parents[2]), env=dict(os.environ, PYTHONPATH=str(HERE.parents[2])),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["v2"]
    return dict(found, words=done.stderr)


def test_the_shells_compile_without_warnings(headers: Path) -> None:
    for unit in sorted(SOURCES.glob("*/*_v2.cpp")):
        command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic"]
        includes = [f"-I{SOURCES}", f"-I{SOURCES / 'include'}", "-isystem", str(headers)]
        includes += ["-isystem", str(toolkit_of(find_nvcc()) / "include")]
        subprocess.run([*command, *includes, str(unit)], check=True)


def test_library_loads_without_tensorrt(library: Path) -> None:
    listed = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], check=True, stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()  # fmt: skip
    assert [name for name in listed[2::3] if not name.startswith("trtyard_")] == []
    loaded = subprocess.run(
        [sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"], check=False
    )
    assert loaded.returncode == 0


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("space", ["", "trtyard"])
def test_plugin_is_serialized_and_restored(answers, op, space) -> None:
    found = answers[op][space]
    assert found["stored"] == found["stored again"] == 4 * OPS[op]
    assert found["short"], "too few bytes must be refused"
    assert found["without optional"] == (None if op == "PaddedNMS" else 4 * OPS[op])


@pytest.mark.parametrize("space", ["", "trtyard"])
def test_types_shapes_and_workspace_match_the_contract(answers, library, space) -> None:
    kernels = ctypes.CDLL(str(library))
    nms, roi_align = kernels.trtyard_padded_nms_workspace, kernels.trtyard_roi_align_workspace
    multiscale = kernels.trtyard_multiscale_roi_align_workspace
    nms.restype = roi_align.restype = multiscale.restype = ctypes.c_size_t
    wanted = {
        "PaddedNMS": nms(2, 3, 4000, 40),
        "MaskRcnnROIAlign": roi_align(2, 64, 50, 40, 300, 7, 6),
        "MultiscaleRoIAlign": multiscale(300, 7, 6),
    }
    for op, size in wanted.items():
        found = answers[op][space]
        assert found["workspace"] == {"float32": size, "float16": size}
        assert found["float index"] == -2
        assert found["wrong shape"] == -5


def test_roi_align_supports_available_channels_last(answers) -> None:
    size = answers["MaskRcnnROIAlign"][""]["workspace"]["float16"]
    hwc = size if answers["hwc"] else -2
    assert answers["formats"] == {
        "float32": {"linear": size, "hwc": hwc, "hwc8": -2},
        "float16": {"linear": size, "hwc": -2, "hwc8": size},
    }


@pytest.mark.parametrize("op", OPS)
def test_invalid_nodes_are_refused_with_a_reason(answers, op) -> None:
    assert answers[op]["refused"] == [True] * 4
    assert f"{op}: " in answers["words"]
    assert "is missing or of the wrong type" in answers["words"]
    assert "must be 0 or 1" in answers["words"]


@pytest.mark.parametrize(
    ("major", "shells"),
    [
        ("NV_TENSORRT_MAJOR 7", "cpp-v2"),
        ("NV_TENSORRT_MAJOR 8 //!< TensorRT major version.", "cpp-v2"),
        ("NV_TENSORRT_MAJOR 10", "cpp-v3"),
        ("TRT_MAJOR_ENTERPRISE 11\n#define NV_TENSORRT_MAJOR TRT_MAJOR_ENTERPRISE", "cpp-v3"),
        ("NV_TENSORRT_MAJOR 1", "cpp-v3"),  # TensorRT for RTX
    ],
)
def test_shells_match_the_headers_release(tmp_path: Path, major, shells) -> None:
    (tmp_path / "NvInfer.h").touch()
    (tmp_path / "NvInferVersion.h").write_text(f"#define {major}\n", encoding="utf-8")
    assert shells_for(tmp_path) == shells


def test_headers_without_a_release_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"NvInfer\.h is not in this folder"):
        shells_for(tmp_path)
    (tmp_path / "NvInfer.h").touch()
    with pytest.raises(UsageError, match="cannot read the version"):
        shells_for(tmp_path)
    (tmp_path / "NvInferVersion.h").write_text("#define SOMETHING 8\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no major version"):
        shells_for(tmp_path)
