"""ONNX's RoiAlign as a V2 plugin: which attributes it takes, and that the kernels compute the op.

TRTYARD_NVINFER_HEADERS=<folder with NvInfer.h of 7.0 to 8.6>[:<another release's>...]
"""

import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
import torch

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.plugins.compile_plugins import compile_plugins, find_nvcc, shells_for
from trtyard.core.plugins.cuda_compiler import require_host_compiler, toolkit_of

VARIABLE = "TRTYARD_NVINFER_HEADERS"
SOURCES = Path(__file__).parents[3] / "plugins"
DRIVER = Path(__file__).with_name("drive_onnx_roi_align.cpp")
REGISTRY = Path(__file__).parents[2] / "gpu" / "plugin_harness.cpp"
FOLDERS = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder]
V2 = [folder for folder in FOLDERS if shells_for(Path(folder)) == "cpp-v2"] or [
    pytest.param("", marks=pytest.mark.skip(reason=f"{VARIABLE} names no headers of 7.0 to 8.6"))
]


@pytest.fixture(scope="module", params=V2)
def answers(request, tmp_path_factory):
    try:
        nvcc = find_nvcc()
        require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)
    headers, folder = Path(request.param), tmp_path_factory.mktemp("roi-align")
    compile_plugins(SOURCES, folder / "shells.so", ["80"], headers=headers)
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-rdynamic", DRIVER, REGISTRY]
    command += ["-isystem", headers, "-isystem", toolkit_of(nvcc) / "include"]
    subprocess.run([*command, "-o", folder / "driver", "-ldl"], check=True)
    done = subprocess.run(
        [folder / "driver", folder / "shells.so"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    release = re.search(
        r"define NV_TENSORRT_MAJOR (\d+)", (headers / "NvInferVersion.h").read_text()
    )
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    return {**lines, "words": done.stderr, "major": int(release.group(1))}


def test_transformation_modes_map_to_aligned(answers):
    assert answers["own"] != answers["own, aligned"]
    assert answers["output_half_pixel"] == answers["own"]
    assert answers["half_pixel"] == answers["half_pixel with NUL"] == answers["own, aligned"]


def test_maximum_matches_the_custom_op(answers):
    assert answers["max"] == answers["own, max"] != answers["own, aligned"]


def test_missing_attributes_use_onnx_defaults(answers):
    assert answers["defaults"] == struct.pack("=iifiii", 1, 1, 1.0, 0, 1, 0).hex()


def test_missing_transformation_is_refused_from_opset_16(answers):
    if answers["major"] < 8:
        assert answers["mode left out"] == answers["own"]
    else:
        assert answers["mode left out"] == "refused"
        assert "export at opset 16 or newer" in answers["words"]


def test_unsupported_roi_align_is_refused_with_a_reason(answers):
    for question in ("unknown mode", "number as text", "negative"):
        assert answers[question] == "refused", question
    for words in ("mode is none of ONNX's", "output_height is of the wrong type"):
        assert words in answers["words"]


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
def test_onnxruntime_op_matches_the_reference(transformation, sampling_ratio, mode):
    # tests/gpu holds the kernels against the same reference.
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    from trtyard.pipeline.ops import roi_align

    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 3, 20, 24)).astype(np.float32)
    corners = rng.uniform(0, 60, size=(9, 2))
    rois = np.concatenate([corners, corners + rng.uniform(0, 40, size=(9, 2))], 1).astype(
        np.float32
    )
    images = rng.integers(0, 2, size=9)
    node = helper.make_node(
        "RoiAlign", ["x", "rois", "images"], ["y"], output_height=5, output_width=4, mode=mode,
        spatial_scale=0.25, sampling_ratio=sampling_ratio,
        coordinate_transformation_mode=transformation,
    )  # fmt: skip
    given = {"x": features, "rois": rois, "images": images}
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in given.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [9, 3, 5, 4])
    graph = helper.make_graph([node], "graph", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(["y"], given)
    found = roi_align(
        torch.from_numpy(features), torch.from_numpy(rois), torch.from_numpy(images).int(),
        5, 4, 0.25, sampling_ratio, int(transformation == "half_pixel"),
        int(mode == "max"),
    )  # fmt: skip
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
