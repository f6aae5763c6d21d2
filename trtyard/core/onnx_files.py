"""Check an ONNX file that a user gives as ``--model``, without importing onnx.

The host uses this before it starts a row. Standard library only, Python 3.6.
"""

import mmap
from pathlib import Path

from trtyard.core.errors import UsageError
from trtyard.core.request import ConversionRequest
from trtyard.core.typed_paths import typed_path

ENDING = ".onnx"
LARGEST = 2**31 - 1  # bytes; protobuf reads no larger message

# Why an option is not for an ONNX file; by field of the request.
_UNFIT = {
    "weights": "an ONNX file has its weights in it",
    "opset": "an ONNX file has its opset in it; to change it, export the file again",
    "size": "--input gives the sizes: --input x=1x3x224x224",
    "top_n": "an ONNX file takes --input and --image",
    "norm_eps": "an ONNX file takes --input and --image",
    "detections": "an ONNX file has its outputs in it",
}
_LFS_POINTER = b"version https://git-lfs"
# The field key = "location" of an entry in TensorProto.external_data, as protobuf writes it.
_LOCATION = b"\x0a\x08location\x12"


def is_onnx_file(spec: str) -> bool:
    """Tell whether ``spec``, the value of --model, is the path of an ONNX file."""
    return spec.lower().endswith(ENDING)


def file_in_folder(spec: str) -> str:
    """Return the path of the only ONNX file in the folder ``spec``.

    Raises:
        UsageError: it holds none, or several.
    """
    folder = typed_path(spec)
    names = sorted(one.name for one in folder.iterdir() if is_onnx_file(one.name))
    if not names:
        raise UsageError(f"--model {spec}: the folder holds no {ENDING} file", "--model FILE.onnx")
    if len(names) > 1:
        raise UsageError(
            f"--model {spec}: the folder holds {len(names)} ONNX files: {', '.join(names)}",
            f"choose one: --model {Path(spec) / names[0]}",
        )
    return str(Path(spec) / names[0])


def check_file(spec: str, option: str = "--model") -> Path:
    """Return the absolute path of the ONNX file ``spec``, the value of ``option``.

    Raises:
        UsageError: it is missing, empty, a placeholder of Git LFS, or too large for protobuf.
    """
    file = typed_path(spec)
    if not file.is_file():
        raise UsageError(f"{option} {spec}: file not found")
    size = file.stat().st_size
    if not size:
        raise UsageError(f"{option} {spec}: the file is empty", "copy or export it again")
    if size > LARGEST:
        raise UsageError(
            f"{option} {spec}: the file has {size / 2**30:.1f} GiB; protobuf reads 2 GiB at most",
            "export it with its weights in a file beside it: "
            "torch.onnx.export(..., external_data=True), or "
            "onnx.save_model(..., save_as_external_data=True)",
        )
    with file.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise UsageError(
                f"{option} {spec}: the file is a placeholder of Git LFS, not the model itself",
                "git lfs pull",
            )
    return file


def has_outside_data(file: Path) -> bool:
    """Tell whether an ONNX file seems to have weights in other files."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(_LOCATION) >= 0


def refuse_unfit(request: ConversionRequest) -> None:
    """Raise ``UsageError`` for an option that is not for an ONNX file."""
    given, known = request.given(), ConversionRequest.options()
    for field, why in _UNFIT.items():
        if field in given:
            raise UsageError(f"--{known[field].name} is not for {request.model}", why)
