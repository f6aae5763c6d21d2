"""The precisions of ``--precision``: their names, and which TensorRT has each.

Standard library only, Python 3.6.
"""

import difflib
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.core.toolchains import RTX, release

FP32, FP16, BF16, INT8, FP8 = "fp32", "fp16", "bf16", "int8", "fp8"
PRECISIONS = (FP32, FP16, BF16, INT8, FP8)
CALIBRATED = (INT8, FP8)  # their files hold scales, which come from data

METHODS = ("percentile", "entropy", "max")
# On seeded ResNet-18 it has the smallest error of the three, on AlexNet it is 5 % above entropy's:
# docs/precision.md.
DEFAULT_METHOD = "percentile"

# The first release of full TensorRT that has the precision in the form that trtyard builds: 8.0
# takes Q/DQ nodes, 9.0 has bfloat16, 10.0 takes float8 Q/DQ nodes of ONNX. RTX has all of them.
_SINCE: Mapping[str, Tuple[int, ...]] = {
    FP32: (0,),
    FP16: (0,),
    BF16: (9, 0),
    INT8: (8, 0),
    FP8: (10, 0),
}
# The lowest compute capability with tensor cores for it, where the rows' lowest is not enough.
_LOWEST_CAPABILITY: Mapping[str, Tuple[int, int]] = {BF16: (8, 0), FP8: (8, 9)}


def read_precisions(name: str, words: str) -> str:
    """Return the value of ``--precision`` without spaces and repeats.

    Raises:
        UsageError: a name in it is unknown.
    """
    names = [word.strip().lower() for word in words.split(",")]
    for one in names:
        if one not in PRECISIONS:
            near = difflib.get_close_matches(one, PRECISIONS, n=1, cutoff=0.4)
            raise UsageError(
                "--{} has no '{}'; it has: {}".format(name, one, ", ".join(PRECISIONS)),
                f"--{name} {near[0] if near else FP16}",
            )
    return ",".join(dict.fromkeys(names))


def has_precision(precision: str, flavour: str, tensorrt: str) -> bool:
    """Return whether that TensorRT has the precision; see ``_SINCE``."""
    return flavour == RTX or tuple(release(tensorrt)) >= _SINCE[precision]


def refuse_lacking(
    precisions: Sequence[str], row: str, flavour: str, tensorrt: str, rows: Mapping[str, Any] = {}
) -> None:
    """Raise ``UsageError`` if the row lacks one of ``precisions``.

    Args:
        precisions: names.
        row: the row's name.
        flavour: "rtx" or "full".
        tensorrt: the row's release.
        rows: the matrix's rows by name, with ``flavour`` and ``tensorrt``, for the hint.
    """
    for one in precisions:
        if has_precision(one, flavour, tensorrt):
            continue
        having = [
            name
            for name, other in rows.items()
            if has_precision(one, other.flavour, other.tensorrt)
        ]
        hint = "the rows that have it: {}".format(", ".join(having)) if having else None
        raise UsageError(f"row {row} (TensorRT {tensorrt}) has no {one}", hint)


def lacking_on(precision: str, capability: str) -> Optional[str]:
    """Return why a GPU of this compute capability lacks the precision; None if it has it."""
    lowest = _LOWEST_CAPABILITY.get(precision)
    if lowest is None or tuple(map(int, capability.split("."))) >= lowest:
        return None
    needed = "{}.{}".format(*lowest)
    return f"{precision} needs compute capability {needed} or newer, this GPU has {capability}"


def refuse_unfit_options(
    precision: str, calibrate: Optional[str], calibration: Optional[str], keep: Optional[str]
) -> None:
    """Raise ``UsageError`` for options that do not fit the precisions that are asked for.

    Args:
        precision: the value of ``--precision``.
        calibrate: the value of ``--calibrate``.
        calibration: the value of ``--calibration``.
        keep: the value of ``--keep-fp32``.
    """
    asked = precision.split(",")
    calibrated = [one for one in asked if one in CALIBRATED]
    if calibrated and calibrate is None:
        raise UsageError(
            "--precision {} needs calibration data".format(",".join(calibrated)),
            "--calibrate FOLDER of at least 8 pictures, or --calibrate FILE.npz with an array for "
            "each input, samples first",
        )
    for name, value in (("calibrate", calibrate), ("calibration", calibration)):
        if value is not None and not calibrated:
            raise UsageError(f"--{name} is for int8 and fp8", "add --precision int8")
    if keep is not None and asked == [FP32]:
        raise UsageError("--keep-fp32 is for reduced precisions", "add --precision fp16")


def reduced(precision: str) -> List[str]:
    """Return the precisions other than fp32 in a value of ``--precision``."""
    return [one for one in precision.split(",") if one != FP32]


def file_names(precision: str) -> Dict[str, str]:
    """Return the names of the ONNX file, engine and note of a precision."""
    stem = "model" if precision == FP32 else f"model.{precision}"
    return {
        "onnx": f"{stem}.onnx",
        "engine": f"{stem}.engine",
        "note": f"{stem}.engine.json",
        "layers": f"{stem}.engine.layers.json",
    }
