"""``bisect``: convert up to ONNX, and find the first node that differs from PyTorch."""

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.request import ONNX, ConversionRequest
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.convert import convert, folder_name
from trtyard.run.pycuda import has_cuda_device
from trtyard.system.uv import OUT

_HERE = "torch,onnxruntime"
_WITH_TENSORRT = ("onnxruntime,tensorrt", "torch,tensorrt")


def bisect(request: ConversionRequest, between: str = _HERE) -> int:
    """Run the search and show its result; return the conversion's exit code.

    Raises:
        UsageError: a value of the request is not possible.
        EnvironmentLacksError: the two runtimes need a GPU.
    """
    _check_between(between)
    request = request.replaced(bisect=True, until=ONNX)
    if request.model and request.out is None:
        row, _locked = row_and_lock(request.row)
        request = request.replaced(out=str(OUT / row.name / f"{folder_name(request.model)}-bisect"))
    return convert(request, dry_run=False)


def _check_between(between: str) -> None:
    if between == _HERE:
        return
    if between not in _WITH_TENSORRT:
        known = ", ".join((_HERE, *_WITH_TENSORRT))
        raise UsageError(f"--between must be one of {known}, not {between!r}".replace(", ", "; "))
    hint = f"--between {_HERE} needs no GPU"
    if not has_cuda_device():
        raise EnvironmentLacksError(f"--between {between}: not run: no CUDA device", hint)
    raise UsageError(
        f"--between {between}: intermediate values of TensorRT are not supported yet", hint
    )
