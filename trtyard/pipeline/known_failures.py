"""What is known about errors of exporters, the TensorRT parser and builder: cause and mend."""

import re
from typing import NamedTuple, Optional


class KnownFailure(NamedTuple):
    """One error that others met before."""

    pattern: str  # a regular expression, searched in the error's words
    mend: str


KNOWN_FAILURES = (
    KnownFailure(
        r"GuardOnDataDependentSymNode|data-dependent expression",
        "a shape or branch depends on the values: give fixed sizes (padding and a count), "
        "masks in place of boolean indexing, torch.where in place of if",
    ),
    KnownFailure(
        r"\bNonZero\b",
        "TensorRT for RTX has no NonZero: use masks with torch.where in place of nonzero() and "
        "boolean indexing",
    ),
    KnownFailure(
        r"NonMaxSuppression",
        "TensorRT for RTX has no NonMaxSuppression: use trtyard.pipeline.ops.padded_nms",
    ),
    KnownFailure(
        r"ROIAlign plugin|importRoiAlign|\bRoiAlign\b",
        "TensorRT for RTX builds RoiAlign only with a GPU: use trtyard.pipeline.ops.roi_align",
    ),
    KnownFailure(
        r"K exceeds the maximum value allowed",
        "TensorRT's TopK takes at most 3840: lower k, or split the TopK in two",
    ),
    KnownFailure(
        r"Plugin not found, are the plugin name, version, and namespace correct|"
        r"No importer registered for op",
        "this TensorRT has neither an importer nor a plugin for the op: write the model with ops "
        "it has, or as a trtyard op",
    ),
    KnownFailure(
        r"No ONNX function found|to ONNX opset version \d+ is not supported",
        "ONNX has no form of this op: replace it by ops that have one, at that line",
    ),
)


def mend_for(words: str) -> Optional[str]:
    """Return what to do about an error with these words, or None when nothing is known."""
    for known in KNOWN_FAILURES:
        if re.search(known.pattern, words):
            return known.mend
    return None
