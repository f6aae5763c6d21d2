"""Read weights in the safetensors format, which contains no code.

Format: https://huggingface.co/docs/safetensors (the header's length as eight little-endian bytes;
a JSON header; the tensors' bytes, without gaps).
"""

import json
import struct
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch

from trtyard.core.errors import UsageError

SUFFIX = ".safetensors"
_LENGTH = 8  # bytes of the header's length
_LARGEST_HEADER = 100_000_000  # bytes, the format's own limit
_BFLOAT16 = "BF16"
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", _BFLOAT16: "<u2",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_safetensors(path: str) -> Dict[str, torch.Tensor]:
    """Return the tensors in the file by name; bfloat16 as float32.

    Raises:
        UsageError: the file is truncated, in another format, or has an unknown type.
    """
    data = Path(path).read_bytes()
    header, start = _header(data, path)
    tensors = {}
    for name, facts in header.items():
        if name == "__metadata__":
            continue
        try:
            kind, shape, (first, last) = facts["dtype"], facts["shape"], facts["data_offsets"]
            if kind not in _TYPES:
                raise _refused(path, f"{name} is of type {kind}, which is not known here")
            if not 0 <= first <= last <= len(data) - start:
                raise ValueError(f"bytes {first} to {last} of {len(data) - start}")
            piece = data[start + first : start + last]
            array = np.frombuffer(piece, np.dtype(_TYPES[kind])).reshape(shape)
        except (KeyError, TypeError, ValueError) as error:
            raise _refused(path, f"its entry for {name} is wrong: {error}") from error
        if kind == _BFLOAT16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = torch.from_numpy(array.copy())
    return tensors


def _header(data: bytes, path: str) -> Any:
    """Return the header, and the offset of the numbers."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        if not 2 <= length <= min(len(data) - _LENGTH, _LARGEST_HEADER):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(data[_LENGTH : _LENGTH + length].decode("utf-8"))
        if not isinstance(header, dict):
            raise ValueError("the header is not an object")
    except (struct.error, ValueError) as error:
        raise _refused(path, str(error)) from error
    return header, _LENGTH + length


def _refused(path: str, why: str) -> UsageError:
    return UsageError(
        f"{path} is not a safetensors file, or it is truncated ({why})", "copy or download it again"
    )
