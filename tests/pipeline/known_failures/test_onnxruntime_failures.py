"""Each known failure of ONNX Runtime, provoked with the row's own."""

import numpy as np
import pytest
from failing_models import first, model_of, tensor, traceback_of
from onnx import TensorProto, helper, numpy_helper

from trtyard.core.errors import ConversionError
from trtyard.known_failures.advice import with_advice
from trtyard.pipeline.onnx_model.runner import run_onnx

node = helper.make_node
ROW = np.zeros((1, 50), np.float32)


def relu(of_type=TensorProto.FLOAT, **options):
    return model_of(
        [node("Relu", ["x"], ["y"], name="culprit")],
        [tensor("x", [1, 50], of_type)],
        [tensor("y", [1, 50], of_type)],
        **options,
    )


def custom_op(domain=""):
    return model_of(
        [node("MaskRcnnROIAlign", ["x"], ["y"], name="culprit", domain=domain)],
        [tensor("x", [1, 50])],
        [tensor("y", [1, 50])],
        domains=[domain] if domain else [],
    )


def topk_with_attribute():
    return model_of(
        [node("TopK", ["x"], ["v", "y"], name="culprit", k=3)],
        [tensor("x", [1, 50])],
        [tensor("v", [1, 3]), tensor("y", [1, 3], TensorProto.INT64)],
        opset=10,
    )


def range_at_opset_10():
    zero, one = (numpy_helper.from_array(np.float32(value), f"c{value}") for value in (0, 1))
    return model_of(
        [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Range", ["c0", "m", "c1"], ["y"])],
        [tensor("x", [1, 50])],
        [tensor("y", [None])],
        opset=10,
        constants=[zero, one],
    )


def integer_convolution():
    weights = numpy_helper.from_array(np.zeros((1, 1, 1, 2), np.int32), "w")
    return model_of(
        [
            node("Cast", ["x"], ["i"], to=TensorProto.INT32),
            node("Reshape", ["i", "shape"], ["r"]),
            node("Conv", ["r", "w"], ["y"], name="culprit"),
        ],
        [tensor("x", [1, 50])],
        [tensor("y", None, TensorProto.INT32)],
        constants=[weights, numpy_helper.from_array(np.array([1, 1, 1, 50]), "shape")],
    )


def roi_align_of_opset_22():
    return model_of(
        [
            node("Reshape", ["x", "map"], ["features"]),
            node("RoiAlign", ["features", "rois", "images"], ["y"], name="culprit"),
        ],
        [tensor("x", [1, 50])],
        [tensor("y", None)],
        opset=22,
        constants=[
            numpy_helper.from_array(np.array([1, 1, 5, 10]), "map"),
            numpy_helper.from_array(np.zeros((1, 4), np.float32), "rois"),
            numpy_helper.from_array(np.zeros(1, np.int64), "images"),
        ],
    )


def nms_with_attributes():
    return model_of(
        [
            node("Reshape", ["x", "shape"], ["b"]),
            node("Slice", ["x", "from", "to", "axis"], ["s1"]),
            node("Reshape", ["s1", "shape2"], ["s"]),
            node("NonMaxSuppression", ["b", "s"], ["y"], name="culprit", iou_threshold=0.5),
        ],
        [tensor("x", [1, 48])],
        [tensor("y", [None, 3], TensorProto.INT64)],
        constants=[
            numpy_helper.from_array(np.array(value), name)
            for name, value in (
                ("shape", [1, 12, 4]),
                ("from", [0]),
                ("to", [12]),
                ("axis", [1]),
                ("shape2", [1, 1, 12]),
            )
        ],
    )


@pytest.mark.parametrize(
    ("name", "model", "op"),
    [
        ("onnxruntime-lacks-op", custom_op, "MaskRcnnROIAlign"),
        ("onnxruntime-lacks-op", lambda: custom_op("me"), "me:MaskRcnnROIAlign"),
        ("onnx-for-one-parser", topk_with_attribute, "TopK"),
        ("onnx-for-one-parser", range_at_opset_10, "Range"),
        ("onnxruntime-no-kernel", integer_convolution, "Conv"),
        ("onnxruntime-no-roi-align", roi_align_of_opset_22, "RoiAlign"),
        ("nms-of-ones-own", nms_with_attributes, "NonMaxSuppression"),
        ("onnx-too-new", lambda: relu(ir_version=40), ""),
        ("onnx-too-new", lambda: relu(opset=40), ""),
    ],
)
def test_onnxruntime_errors_are_known(name, model, op, written):
    file = written(model())
    explanation = first(traceback_of(lambda: run_onnx(file, {"x": ROW}, ["y"])))
    assert explanation.failure.name == name
    assert explanation.place.op == op
    with pytest.raises(ConversionError) as failure:
        run_onnx(file, {"x": ROW}, ["y"])
    assert with_advice(failure.value).hint == explanation.failure.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input-of-other-shape", ROW[:, :40]),
        ("input-of-other-type", ROW.astype(np.float64)),
    ],
)
def test_mismatched_input_is_known(name, value, written):
    file = written(relu())
    log = traceback_of(lambda: run_onnx(file, {"x": value}, ["y"]))
    assert first(log).failure.name == name


@pytest.mark.parametrize("data", [b"version https://git-lfs.github.com/spec/v1\n", b"\x08\x07\x12"])
def test_truncated_file_is_known(data, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(data)
    words = traceback_of(lambda: run_onnx(file, {"x": ROW}, ["y"]))
    assert first(words).failure.name == "onnx-file-not-whole"
