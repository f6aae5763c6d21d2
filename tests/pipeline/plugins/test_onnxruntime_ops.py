"""The custom ops of ONNX Runtime on the CPU, against the references.

The CUDA kernels are not compiled here; the CPU never calls them. tests/gpu has the other half.
"""

import os
import subprocess

import numpy as np
import onnxruntime
import pytest
import torch
from custom_ops_library import VARIABLE
from one_node import one_node_model, run_model
from onnx import TensorProto

from trtyard.pipeline.ops import multiscale_roi_align, padded_nms
from trtyard.pipeline.ops.roi_align_op.reference import roi_align_reference

INT32, FLOAT = TensorProto.INT32, TensorProto.FLOAT
TYPES = {FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16}
TYPES[TensorProto.BFLOAT16] = torch.bfloat16
ROUNDING = {FLOAT: 1e-5, TensorProto.FLOAT16: 1e-3, TensorProto.BFLOAT16: 8e-3}  # a step at 1
NMS = {"iou_threshold": 0.5, "score_threshold": 0.2, "keep_top_k": 50, "box_offset": 0}
POOLING = {"output_height": 5, "output_width": 3, "spatial_scale": 0.25}
POOLING.update({"sampling_ratio": 0, "aligned": 1, "mode": 0})


def nms(library, boxes, scores, element_type=None, **changes):
    attributes = {**NMS, **changes}
    outputs = [(INT32, 2), (INT32, 1)]
    model = one_node_model(
        "PaddedNMS", [boxes, scores], outputs, 18, element_type, of_element=2, **attributes
    )
    return run_model(model, [boxes, scores], library)


def pooled(library, features, rois, images, element_type=None, **changes):
    inputs = [features, rois, images]
    attributes = {**POOLING, **changes}
    model = one_node_model(
        "MaskRcnnROIAlign", inputs, [(FLOAT, 4)], 18, element_type, of_element=1, **attributes
    )
    return run_model(model, inputs, library)[0]


def random_boxes(random, shape, size=100.0):
    corner = random.uniform(0, size, (*shape, 2))
    return np.float32(
        np.concatenate([corner, corner + random.uniform(1, size / 2, corner.shape)], -1)
    )


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize(
    ("batch", "classes", "boxes", "shared"), [(2, 3, 60, False), (1, 80, 40, True)]
)
def test_padded_nms_equals_the_reference(library, batch, classes, boxes, shared, element_type):
    random = np.random.default_rng(batch * classes)
    corners = random_boxes(random, (batch, 1 if shared else classes, boxes))
    scores = np.float32(np.round(random.random((batch, classes, boxes)), 2))  # many ties
    for offset in (0, 1):
        found = nms(library, corners, scores, element_type, box_offset=offset)
        asked = [torch.from_numpy(each).to(TYPES[element_type]) for each in (corners, scores)]
        expected = padded_nms(*asked, **{**NMS, "box_offset": offset})
        for got, wanted in zip(found, expected):
            np.testing.assert_array_equal(got, wanted.numpy())


@pytest.mark.parametrize("sizes", [(0, 2, 3), (2, 0, 3), (2, 2, 0)])
def test_padded_nms_without_boxes_gives_padding(library, sizes):
    batch, classes, boxes = sizes
    corners = np.zeros((batch, classes, boxes, 4), np.float32)
    indices, count = nms(library, corners, np.zeros(sizes, np.float32))
    assert indices.shape == (batch, 50)
    assert (indices == -1).all()
    assert (count == 0).all()


def test_padded_nms_takes_no_nan_and_minus_zero_ties(library):
    apart = np.float32(np.arange(5)[:, None] * 100 + [0, 0, 9, 9])
    scores = np.float32([[[float("nan"), 0.0, -0.0, float("inf"), float("-inf")]]])
    indices, count = nms(library, apart[None, None], scores, score_threshold=-1.0, keep_top_k=4)
    assert indices.tolist() == [[3, 1, 2, -1]]
    assert count.tolist() == [3]


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", [0, 1])
def test_roi_align_equals_the_reference(library, mode, ratio, aligned, element_type):
    random = np.random.default_rng(ratio * 2 + aligned)
    features = np.float32(random.standard_normal((2, 7, 20, 30)))
    rois = random_boxes(random, (40,), size=120.0) - 15  # some outside the map
    rois[3], rois[4], rois[5] = [5, 5, 5, 5], [30, 9, 10, 40], [float("nan"), 0, 9, 9]
    rois[6] = [-20000, -20000, 20000, 20000]  # much larger than the map
    images = np.int32(random.integers(-1, 3, len(rois)))  # padding, and an image too many
    changes = {"mode": mode, "sampling_ratio": ratio, "aligned": aligned}
    found = pooled(library, features, rois, images, element_type, **changes)
    typed = torch.from_numpy(features).to(TYPES[element_type])
    expected = roi_align_reference(
        typed, torch.from_numpy(rois), torch.from_numpy(images), **{**POOLING, **changes}
    )
    rounding = ROUNDING[element_type]
    np.testing.assert_allclose(found, expected.float().numpy(), atol=rounding, rtol=rounding)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (1, 0, 4, 4), (1, 3, 0, 4)])
def test_roi_align_of_an_empty_map_gives_zeros(library, shape):
    rois = np.float32([[0, 0, 8, 8]])
    found = pooled(library, np.zeros(shape, np.float32), rois, np.int32([0]))
    np.testing.assert_array_equal(found, np.zeros((1, shape[1], 5, 3), np.float32))


@pytest.mark.parametrize("element_type", TYPES)
@pytest.mark.parametrize("levels", [2, 4, 5])
def test_multiscale_roi_align_equals_the_reference(library, levels, element_type):
    random = np.random.default_rng(levels)
    scales = [2.0**-level for level in range(2, 2 + levels)]
    maps = [
        np.float32(random.standard_normal((2, 3, int(256 * scale), int(320 * scale))))
        for scale in scales
    ]
    side = 2 ** random.uniform(3, 10, (60, 1))
    corner = random.uniform(-20, 250, (60, 2))
    rois = np.float32(np.concatenate([corner, corner + side * random.uniform(0.5, 2, (60, 2))], 1))
    rois[0], rois[1] = [5, 5, 5, 5], [9, 5, 3, 9]  # without area, inverted on one axis
    images = np.int32(random.integers(-1, 3, len(rois)))
    inputs = [*maps, *[maps[-1]] * (5 - levels), rois, images]
    attributes = {f"scale_{level}": scale for level, scale in enumerate(scales)}
    attributes.update({"output_height": 3, "output_width": 2, "sampling_ratio": 2, "aligned": 0})
    attributes.update({"canonical_scale": 224, "canonical_level": 4})
    model = one_node_model(
        "MultiscaleRoIAlign", inputs, [(FLOAT, 4)], 18, element_type, of_element=5, **attributes
    )
    (found,) = run_model(model, inputs, library)
    expected = multiscale_roi_align(
        [torch.from_numpy(each).to(TYPES[element_type]) for each in maps],
        torch.from_numpy(rois),
        torch.from_numpy(images),
        (3, 2),
        scales,
        sampling_ratio=2,
    )
    rounding = ROUNDING[element_type]
    np.testing.assert_allclose(found, expected.float().numpy(), atol=rounding, rtol=rounding)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"box_offset": 2}, "box_offset must be 0 or 1"),
        ({"keep_top_k": -1}, "keep_top_k must not be negative"),
        ({"keep_top_k": 2**40}, "keep_top_k does not fit into 32 bits"),
    ],
)
def test_a_bad_attribute_is_named(library, changes, words):
    with pytest.raises(Exception, match=f"PaddedNMS: {words}"):
        nms(library, np.zeros((1, 1, 3, 4), np.float32), np.zeros((1, 1, 3), np.float32), **changes)


def test_wrong_shapes_are_named(library):
    boxes, scores = np.zeros((1, 3, 3, 4), np.float32), np.zeros((1, 2, 3), np.float32)
    with pytest.raises(Exception, match="PaddedNMS: boxes must have one class, or those of"):
        nms(library, boxes, scores)
    with pytest.raises(Exception, match=r"MaskRcnnROIAlign: rois must be \[R, 4\]"):
        pooled(
            library, np.zeros((1, 1, 4, 4), np.float32), np.zeros((2, 5), np.float32), np.int32([0])
        )


def test_the_library_is_used_instead_of_the_function(library):
    """The function body is removed from the graph, so only the kernel can answer."""
    boxes, scores = np.zeros((1, 1, 3, 4), np.float32), np.ones((1, 1, 3), np.float32)
    model = one_node_model("PaddedNMS", [boxes, scores], [(INT32, 2), (INT32, 1)], 18, **NMS)
    del model.functions[:]
    assert run_model(model, [boxes, scores], library)[1].tolist() == [3]
    with pytest.raises(Exception, match="PaddedNMS"):
        run_model(model, [boxes, scores])


def test_an_older_onnxruntime_is_refused_with_both_versions(library, tmp_path):
    """A runtime without the API version of the headers answers with a null pointer."""
    driver = tmp_path / "driver.cpp"
    driver.write_text(
        """
#include <cstdio>
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
static OrtApi old_api;
static const OrtApi* get(uint32_t version) noexcept { return version == 1 ? &old_api : nullptr; }
static const char* version() noexcept { return "1.8.0"; }
static OrtStatus* status(OrtErrorCode, const char* words) noexcept {
    std::puts(words);
    return nullptr;
}
int main(int, char** arguments) {
    old_api.CreateStatus = status;
    OrtApiBase base{get, version};
    void* library = dlopen(arguments[1], RTLD_NOW);
    if (library == nullptr) { std::puts(dlerror()); return 1; }
    using Register = OrtStatus* (*)(OrtSessionOptions*, const OrtApiBase*);
    reinterpret_cast<Register>(dlsym(library, "RegisterCustomOps"))(nullptr, &base);
    return 0;
}
""",
        encoding="utf-8",
    )
    program = tmp_path / "driver"
    command = ["g++", "-std=c++17", "-isystem", os.environ[VARIABLE], str(driver), "-ldl"]
    subprocess.run([*command, "-o", str(program)], check=True)
    said = subprocess.run([str(program), str(library)], check=True, stdout=subprocess.PIPE)
    assert b"need ONNX Runtime 1.21 or newer, not 1.8.0" in said.stdout


def test_a_library_of_something_else_is_refused(tmp_path):
    wrong = tmp_path / "libtrtyard_ort.so"
    wrong.write_bytes(b"no library")
    options = onnxruntime.SessionOptions()
    with pytest.raises(Exception, match=r"libtrtyard_ort\.so"):
        options.register_custom_ops_library(str(wrong))


def test_a_second_session_in_the_process_works(library):
    boxes, scores = np.zeros((1, 1, 3, 4), np.float32), np.ones((1, 1, 3), np.float32)
    for _ in range(2):
        assert nms(library, boxes, scores)[1].tolist() == [3]
