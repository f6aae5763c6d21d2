"""The C++ V3 shells. TensorRT's headers are in no package registry, so they must be given:

TRTYARD_NVINFER_HEADERS=<folder with NvInfer.h>[:<another release's>...]
"""

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import (
    SHELL_LIBRARY_NAME,
    compile_plugins,
    find_nvcc,
    shells_for,
)
from trtyard.core.plugins.cuda_compiler import require_host_compiler, toolkit_of

VARIABLE = "TRTYARD_NVINFER_HEADERS"
HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "plugins"
OPS = ["PaddedNMS", "MaskRcnnROIAlign", "MultiscaleRoIAlign"]
BOTH_NAMESPACES = [[op, "1", space] for op in sorted(OPS) for space in ("", "trtyard")]


class Shells(NamedTuple):
    headers: Path
    library: Path

    @property
    def major(self) -> int:
        text = (self.headers / "NvInferVersion.h").read_text(encoding="utf-8")
        return int(re.search(r"#define (?:NV_TENSORRT|TRT)_MAJOR(?:_ENTERPRISE)? (\d+)", text)[1])


def given_headers() -> list[Any]:
    folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
    folders = [folder for folder in folders if shells_for(Path(folder)) == "cpp-v3"]
    reason = f"{VARIABLE} does not name a folder with the headers of TensorRT 10 or newer"
    return folders or [pytest.param("", marks=pytest.mark.skip(reason=reason))]


@pytest.fixture(scope="module", params=given_headers())
def shells(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shells:
    try:
        find_nvcc()
        require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    headers = Path(request.param)
    library = tmp_path_factory.mktemp("shells") / SHELL_LIBRARY_NAME
    compile_plugins(SOURCES, library, ["80"], headers=headers)
    return Shells(headers, library)


@pytest.fixture(scope="module")
def in_tensorrt(shells: Shells) -> dict[str, Any]:
    """What TensorRT made of the library; a process of its own, which may end in a crash."""
    pytest.importorskip("tensorrt_rtx_bindings")
    done = subprocess.run(
        [sys.executable, str(HERE / "drive_plugin_shells.py"), str(shells.library)],
        check=False, capture_output=True, text=True, cwd=str(HERE.parents[2]),
        env=dict(os.environ, PYTHONPATH=str(HERE.parents[2])),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def in_driver(shells: Shells) -> list[dict[str, Any]]:
    """What a small C++ program saw that calls the creators as TensorRT does."""
    program = shells.library.with_name("drive_plugin_shells")
    includes = ["-isystem", str(shells.headers)]
    includes += ["-isystem", str(toolkit_of(find_nvcc()) / "include")]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined"]
    source = str(HERE / "drive_plugin_shells.cpp")
    subprocess.run(["g++", *flags, *includes, source, "-o", str(program), "-ldl"], check=True)
    done = subprocess.run(
        [str(program), str(shells.library)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_the_shells_compile_without_warnings(shells: Shells) -> None:
    for unit in sorted(SOURCES.glob("*/*_v3.cpp")):
        command = ["g++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic"]
        includes = [f"-I{SOURCES}", f"-I{SOURCES / 'include'}", "-isystem", str(shells.headers)]
        includes += ["-isystem", str(toolkit_of(find_nvcc()) / "include")]
        subprocess.run([*command, *includes, str(unit)], check=True)


def test_tensorrt_loads_the_library_and_knows_the_creators(in_tensorrt: dict[str, Any]) -> None:
    assert in_tensorrt["loaded"]
    assert in_tensorrt["creators"] == BOTH_NAMESPACES


@pytest.mark.parametrize("case", ["static", "no functions", "float16", "dynamic", "maximum"])
def test_networks_are_built_with_the_plugins(in_tensorrt: dict[str, Any], case: str) -> None:
    made = in_tensorrt[case]
    assert made["errors"] == []
    assert made["built"]
    assert made["network"] == OPS
    assert made["plan"] == OPS
    batch, rois = (-1, -1) if case == "dynamic" else (2, 9)
    element = "DataType.HALF" if case == "float16" else "DataType.FLOAT"
    assert made["outputs"] == [
        ["indices", [batch, 10], "DataType.INT32"],
        ["count", [batch], "DataType.INT32"],
        ["pooled", [rois, 8, 7, 5], element],
        ["of_levels", [rois, 8, 3, 2], element],
    ]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("missing attribute", "PaddedNMS: box_offset is missing"),
        ("bad attribute", "box_offset must be 0 or 1"),
        ("bad mode", "mode must be 0 (average) or 1 (maximum)"),
        ("bad rank", "boxes must be [B, Cb, N, 4]"),
    ],
)
def test_wrong_nodes_are_refused_with_a_reason(
    in_tensorrt: dict[str, Any], shells: Shells, case: str, words: str
) -> None:
    made = in_tensorrt[case]
    assert not made["parsed"]
    # The logger became another class in 11, which RTX 1.7 follows: a library built for 10 works
    # there, but cannot say why it refuses.
    reasons = [error for error in made["errors"] if words in error]
    assert bool(reasons) == (shells.major >= 11)


def test_a_plugin_made_from_its_stored_fields_stores_the_same(
    in_driver: list[dict[str, Any]],
) -> None:
    fields = {
        "PaddedNMS": {
            "iou_threshold": 0.5, "score_threshold": 0.0625, "keep_top_k": 3, "box_offset": 1,
        },
        "MaskRcnnROIAlign": {
            "output_height": 3, "output_width": 1, "spatial_scale": 0.5, "sampling_ratio": 2,
            "aligned": 0, "mode": 1,
        },
        "MultiscaleRoIAlign": {
            "output_height": 3, "output_width": 1, "sampling_ratio": 2, "aligned": 0,
            "canonical_scale": 1, "canonical_level": 4, "scale_0": 0.5, "scale_1": 0.0625,
            "scale_2": 0.03125, "scale_3": 0, "scale_4": 0,
        },
    }  # fmt: skip
    assert [[each["name"], each["namespace"]] for each in in_driver] == [
        [op, space] for op in OPS for space in ("", "trtyard")
    ]
    assert all(each["fields"] == fields[each["name"]] for each in in_driver)


def test_linear_types_match_the_contract(
    in_driver: list[dict[str, Any]],
) -> None:
    # f float32, h float16, b bfloat16, i int32; one letter a tensor, inputs first.
    taken = {
        "PaddedNMS": ["ffii", "hhii", "bbii"],
        "MaskRcnnROIAlign": ["ffif", "hfih", "bfib"],
        "MultiscaleRoIAlign": ["ffffffif", "hhhhhfih", "bbbbbfib"],
    }
    assert all(each["types"] == taken[each["name"]] for each in in_driver)


def test_roi_align_supports_tensorrts_channels_last(
    in_driver: list[dict[str, Any]],
) -> None:
    # The type, then features' and pooled's format: Linear, hwc (C), hwc8 (8).
    pairs = [a + b for a in "LC" for b in "LC"], [a + b for a in "L8" for b in "L8"]
    wanted = ["f" + pair for pair in pairs[0]] + [t + pair for t in "hb" for pair in pairs[1]]
    taken = [each["formats"] for each in in_driver if each["name"] != "PaddedNMS"]
    assert taken == [wanted] * 4


def test_workspace_matches_the_kernels(in_driver: list[dict[str, Any]], shells: Shells) -> None:
    library = ctypes.CDLL(str(shells.library))
    nms, roi_align = library.trtyard_padded_nms_workspace, library.trtyard_roi_align_workspace
    multiscale = library.trtyard_multiscale_roi_align_workspace
    nms.restype = roi_align.restype = multiscale.restype = ctypes.c_size_t
    wanted = {
        "PaddedNMS": nms(2, 3, 4000, 3),
        "MaskRcnnROIAlign": roi_align(2, 64, 50, 40, 300, 3, 1),
        "MultiscaleRoIAlign": multiscale(300, 3, 1),
    }
    assert wanted["PaddedNMS"] > 0
    assert all(each["workspace"] == wanted[each["name"]] for each in in_driver)


def test_an_incomplete_plugin_is_refused_through_the_logger(
    in_driver: list[dict[str, Any]],
) -> None:
    for each in in_driver:
        assert each["refused"]
        assert each["logged"].startswith(each["name"] + ": ")
        assert "is missing" in each["logged"]
