"""Which rows' ONNX files no other row has."""

from trtyard.lock.row_and_lock import row_and_lock

PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime", "onnxscript", "onnx-ir", "numpy")


def exports_with(name):
    """Return the exporter, opset and packages that a row's ONNX files depend on."""
    row, lock = row_and_lock(name)
    versions = {one.name: one.version for one in lock.wheels if one.name in PACKAGES}
    return row.exporter, row.opset, versions


def has_own_exports(name):
    """Return whether tests/pipeline, in the default row, does not export the same files."""
    return exports_with(name) != exports_with("default")
