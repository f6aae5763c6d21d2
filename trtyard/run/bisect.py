"""``bisect``: convert, and find the first node in which two runtimes differ."""

from trtyard.core.request import ENGINE, ONNX, ONNXRUNTIME_TENSORRT, ConversionRequest
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.convert import convert, folder_name
from trtyard.system.uv import OUT


def bisect(request: ConversionRequest) -> int:
    """Run the search and show its result; return the conversion's exit code.

    Raises:
        UsageError: a value of the request is not possible.
    """
    request = request.replaced(bisect=True)
    until = ENGINE if request.searches(ONNXRUNTIME_TENSORRT) else ONNX
    request = request.replaced(until=until)
    if request.model and request.out is None:
        row, _locked = row_and_lock(request.row)
        request = request.replaced(out=str(OUT / row.name / f"{folder_name(request.model)}-bisect"))
    return convert(request, dry_run=False)
