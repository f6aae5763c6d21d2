"""The safetensors format, against files written here byte by byte."""

import json
import struct

import numpy as np
import pytest
import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.checkpoint import read_state
from trtyard.pipeline.models.safetensors import read_safetensors

ARRAYS = {
    "F64": np.array([[1.5, -2]], "<f8"),
    "F32": np.array([0.25, -3, 7], "<f4"),
    "F16": np.array(0.5, "<f2"),
    "I64": np.array([1 << 40], "<i8"),
    "I32": np.array([[-5], [6]], "<i4"),
    "I16": np.array([-300], "<i2"),
    "I8": np.array([-3], "i1"),
    "U8": np.array([200], "u1"),
    "BOOL": np.array([True, False], "?"),
}


def file_of(path, header, data):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return str(path)


def written(path, arrays=ARRAYS):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for kind, array in arrays.items():
        end = len(data) + array.nbytes
        facts = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), end]}
        header[f"the.{kind}"] = facts
        data += array.tobytes()
    return file_of(path, header, data)


def test_every_type_round_trips(tmp_path):
    found = read_safetensors(written(tmp_path / "x.safetensors"))
    assert set(found) == {f"the.{kind}" for kind in ARRAYS}
    for kind, array in ARRAYS.items():
        value = found[f"the.{kind}"].numpy()
        assert value.dtype == array.dtype
        np.testing.assert_array_equal(value, array)


def test_bfloat16_becomes_float32_of_the_same_value(tmp_path):
    expected = torch.tensor([1.0, -2.5, 3e38, 1e-40]).bfloat16()
    raw = expected.view(torch.int16).numpy()
    found = read_safetensors(written(tmp_path / "x.safetensors", {"BF16": raw}))["the.BF16"]
    assert found.dtype == torch.float32
    assert torch.equal(found, expected.float())


def test_checkpoint_may_be_safetensors(tmp_path):
    path = written(tmp_path / "x.safetensors", {"F32": np.array([1, np.nan], "<f4")})
    with pytest.raises(UsageError, match="holds NaN or infinite weights"):
        read_state(path)


@pytest.mark.parametrize("left", [0, 5, 40, -1])
def test_truncated_file_is_refused(tmp_path, left):
    path = tmp_path / "x.safetensors"
    written(path)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UsageError):
        read_state(str(path))


def test_header_must_match_the_data(tmp_path):
    path = tmp_path / "x.safetensors"
    for facts in (
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 40]},
        {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]},
        {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]},
        {"dtype": "F32", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        [],
    ):
        with pytest.raises(UsageError):
            read_safetensors(file_of(path, {"w": facts}, b"1234"))
    with pytest.raises(UsageError, match="not a safetensors file"):
        read_safetensors(file_of(path, [], b""))
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(UsageError, match="not a safetensors file"):
        read_safetensors(str(path))
