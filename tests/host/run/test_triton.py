"""The model repository of --export triton, read with Triton's own schema."""

import pytest
from validators import triton_config

from trtyard.core.errors import ConversionError, UsageError
from trtyard.core.files import write_json
from trtyard.core.report import (
    PASSED,
    STAGES,
    DynamicDimension,
    EngineFacts,
    OnnxTensor,
    Report,
    Signature,
    Stage,
)
from trtyard.core.report_json import report_value
from trtyard.core.toolchains import Toolchain
from trtyard.run import triton
from trtyard.run.triton import config, lay_out, platform_for, refuse_to_replace

FIXED = Signature(
    (OnnxTensor("images", "float32", ("1", "3", "224", "224")),),
    (OnnxTensor("logits", "float32", ("1", "1000")),),
)
OPEN = Signature(
    (
        OnnxTensor("ids", "int64", ("batch", "length")),
        OnnxTensor("mask", "bool", ("batch", "length")),
    ),
    (
        OnnxTensor("words", "float16", ("batch", "length", "8")),
        OnnxTensor("n", "int32", ("batch",)),
    ),
)
FULL = Toolchain("10.16", "full", "10.16.1.11", "2.12.0", "dynamo", 18)
RTX = FULL._replace(row="rtx-1.7", flavour="rtx", tensorrt="1.7.1.116")


def batch(*profiles, name="batch"):
    return (DynamicDimension(name, ("ids[0]", "mask[0]"), profiles),)


def report(signature=FIXED, **changes):
    stages = tuple(Stage(name, PASSED, 1.0) for name in STAGES)
    return Report("10.16", "net", "fp32", "host", stages, signature=signature, **changes)


def text_of(made, out, toolchain=FULL, name="net"):
    return config(made, name, platform_for(made, out, toolchain))


def test_fixed_shapes_are_served_without_batches(tmp_path):
    text = text_of(report(), tmp_path)
    assert triton_config(text) == {
        "name": "net",
        "platform": "onnxruntime_onnx",
        "input": [{"name": "images", "data_type": "TYPE_FP32", "dims": ["1", "3", "224", "224"]}],
        "output": [{"name": "logits", "data_type": "TYPE_FP32", "dims": ["1", "1000"]}],
    }


def test_a_batch_that_varies_is_made_by_triton(tmp_path):
    found = triton_config(text_of(report(OPEN, dimensions=batch((1, 4, 16))), tmp_path))
    assert found["max_batch_size"] == 16
    assert found["dynamic_batching"] == {}
    assert found["input"] == [
        {"name": "ids", "data_type": "TYPE_INT64", "dims": ["-1"]},
        {"name": "mask", "data_type": "TYPE_BOOL", "dims": ["-1"]},
    ]
    assert found["output"] == [
        {"name": "words", "data_type": "TYPE_FP16", "dims": ["-1", "8"]},
        {"name": "n", "data_type": "TYPE_INT32", "dims": ["1"], "reshape": {}},
    ]


@pytest.mark.parametrize(
    ("signature", "dimensions"),
    [
        (OPEN, batch((2, 4, 8))),  # Triton also sends one alone
        (OPEN, batch((1, 4, 8), name="other")),
        (Signature(OPEN.inputs, (OnnxTensor("y", "float32", ("3",)),)), batch((1, 4, 8))),
        (Signature(OPEN.inputs, (OnnxTensor("y", "float32", ()),)), batch((1, 4, 8))),
    ],
)
def test_another_first_dimension_is_no_batch(tmp_path, signature, dimensions):
    found = triton_config(text_of(report(signature, dimensions=dimensions), tmp_path))
    assert "max_batch_size" not in found  # protobuf leaves out what is 0
    assert "dynamic_batching" not in found
    assert found["input"][0]["dims"] == ["-1", "-1"]


def test_an_engine_is_served_if_triton_has_its_tensorrt(tmp_path):
    (tmp_path / "model.engine").touch()
    made = report(
        OPEN,
        dimensions=batch((1, 2, 4), (5, 8, 16)),
        engine=EngineFacts(1, 1, ("PaddedNMS",)),
    )
    text = text_of(made, tmp_path)
    found = triton_config(text)
    assert found["platform"] == "tensorrt_plan"
    assert found["max_batch_size"] == 4  # of the first profile, which Triton uses
    assert "# The plan needs TensorRT 10.16.1.11 and" in text
    assert "libtrtyard_plugins_v3.so" in text
    assert "libtrtyard_plugins_v2.so" in text_of(made, tmp_path, FULL._replace(tensorrt="8.6.1.6"))
    for other in (RTX, None):
        found = triton_config(text_of(made, tmp_path, other))
        assert (found["platform"], found["max_batch_size"]) == ("onnxruntime_onnx", 16)


def test_names_are_quoted(tmp_path):
    name = 'a"b\\c\nä'
    made = report(Signature((OnnxTensor(name, "float32", ("1",)),), FIXED.outputs))
    found = triton_config(text_of(made, tmp_path, name=name))
    assert (found["name"], found["input"][0]["name"]) == (name, name)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (OnnxTensor("y", "float32", None), "declares no shape for y"),
        (OnnxTensor("y", "complex64", ("1",)), "Triton has no type complex64"),
    ],
)
def test_what_triton_cannot_serve_is_an_error(tmp_path, tensor, message):
    with pytest.raises(ConversionError, match=message):
        text_of(report(Signature(FIXED.inputs, (tensor,))), tmp_path)


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """Return the output folder of a conversion."""
    monkeypatch.setattr(triton, "matrix_toolchains", lambda: (FULL,))
    write_json(tmp_path / "report.json", report_value(report()))
    (tmp_path / "model.onnx").write_bytes(b"the model")
    return tmp_path


def files_in(folder):
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file() and one.name != "config.pbtxt"
    }


def test_the_repository_has_a_folder_for_the_version(converted, capsys):
    (converted / "model.onnx.data").write_bytes(b"weights")
    lay_out(converted, "net")
    folder = converted / "triton" / "net"
    assert files_in(folder) == {"1/model.onnx": b"the model", "1/model.onnx.data": b"weights"}
    assert triton_config((folder / "config.pbtxt").read_text())["name"] == "net"
    assert capsys.readouterr().out == f"{folder}/config.pbtxt\n"


def test_another_conversion_replaces_or_removes_it(converted):
    lay_out(converted, "net")
    (converted / "model.engine").write_bytes(b"the plan")
    lay_out(converted, "net")
    assert files_in(converted / "triton") == {"net/1/model.plan": b"the plan"}
    lay_out(converted, None)
    assert not (converted / "triton").exists()


def test_a_failed_conversion_leaves_none(converted):
    lay_out(converted, "net")
    write_json(converted / "report.json", report_value(report(None)))
    lay_out(converted, "net")
    assert not (converted / "triton").exists()


def test_files_of_others_stay(converted):
    (converted / "triton" / "mine").mkdir(parents=True)
    (converted / "triton" / "mine" / "config.pbtxt").write_text('name: "mine"')
    with pytest.raises(UsageError, match="has files that are not from a conversion"):
        refuse_to_replace(converted)
    lay_out(converted, None)
    assert (converted / "triton" / "mine" / "config.pbtxt").exists()
