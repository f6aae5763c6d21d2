"""Format names and numbers for readers."""

import math
from collections.abc import Iterable

from trtyard.core.report import RUNTIME_NAMES

# Characters that look like others in source code.
TIMES, NOTHING, MINUS, INFINITY = (
    "\N{MULTIPLICATION SIGN}",
    "\N{EN DASH}",
    "\N{MINUS SIGN}",
    "\N{INFINITY}",
)

_STAGES = {
    "torch": "Run in PyTorch",
    "export": "Export to ONNX",
    "simplify": "Simplify the ONNX file",
    "onnxruntime": "Run in ONNX Runtime",
    "onnxruntime-cuda": "Run in ONNX Runtime CUDA",
    "plugins": "Compile plugins",
    "engine": "Build the engine",
    "tensorrt": "Run in TensorRT",
    "rewrite": "Rewrite the ONNX file",
}
_SUBJECTS = {
    "export": "the export",
    "simplify": "the simplification",
    "plugins": "the plugins",
    "engine": "the engine",
    "rewrite": "the rewriting",
}
_STATUSES = {"passed": "passed", "failed": "failed", "not-run": "not run"}
_SMALL = 1e-3  # smaller numbers are written with an exponent
_UNITS = ("B", "kB", "MB", "GB", "TB")


def runtime_name(runtime: str) -> str:
    """Return a runtime's name, such as "ONNX Runtime"."""
    return RUNTIME_NAMES.get(runtime, runtime)


def stage_name(stage: str) -> str:
    """Return a stage's title, such as "Build the engine"."""
    return _STAGES.get(stage, stage)


def subject(stage: str) -> str:
    """Return a stage as the subject of a sentence, such as "TensorRT" or "the engine"."""
    return RUNTIME_NAMES.get(stage, _SUBJECTS.get(stage, stage))


def status_word(status: str) -> str:
    """Return a status as text: "passed", "failed" or "not run"."""
    return _STATUSES.get(status, status)


def listed(things: Iterable[str]) -> str:
    """Return "a", "a and b" or "a, b and c"."""
    words = list(things)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def counted(count: int, thing: str) -> str:
    """Return "1 detection" or "13 detections"."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def number(value: float | None, digits: int = 2) -> str:
    """Return a measured number with few significant digits: "0", "0.0039", "3.9e-5"."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else (INFINITY if value > 0 else MINUS + INFINITY)
    text = f"{value:.{digits}g}"
    if 0 < abs(value) < _SMALL and "e" not in text:
        text = f"{value:.{digits - 1}e}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def tolerance(atol: float, rtol: float) -> str:
    """Return a tolerance: "0.05 + 1e-4 of |ref|" with a times sign, "1e-6" or "exact"."""
    if not atol and not rtol:
        return "exact"
    relative = f"{number(rtol)} {TIMES} |ref|"
    return relative if not atol else (number(atol) + (f" + {relative}" if rtol else ""))


def seconds(value: float | None) -> str:
    """Return a duration: "< 0.01 s", "0.24 s", "9.0 s", "43 s", "2 min 05 s"."""
    if value is None:
        return NOTHING
    if value < 0.005:
        return "< 0.01 s"
    if value < 0.995:
        return f"{value:.2f} s"
    if value < 9.95:
        return f"{value:.1f} s"
    whole = round(value)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def milliseconds(value: float | None) -> str:
    """Return a latency with three significant digits: "0.0361 ms", "4.21 ms", "1,204 ms"."""
    if value is None:
        return NOTHING
    decimals = max(0, 2 - math.floor(math.log10(value))) if value > 0 else 0
    return f"{value:,.{decimals}f} ms"


def size(count: int) -> str:
    """Return a number of bytes in decimal units: "137.9 MB"."""
    value, unit = float(count), 0
    while value >= 999.95 and unit + 1 < len(_UNITS):
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def one_line(text: str) -> str:
    """Return text without line breaks, control characters or runs of spaces."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    """Return text with control characters replaced by spaces, except line breaks.

    XML and terminals cannot show them, and a model's name may contain any.
    """
    return "".join(each if each == "\n" or each.isprintable() else " " for each in text)


def compact(count: int) -> str:
    """Return a count that fits above a narrow bar: "950", "12k", "3.4M"."""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if count >= limit:
            scale = limit if limit != 10**4 else 1000
            return f"{count / scale:.3g}{unit}"
    return str(count)


def cosine(value: float) -> str:
    """Return a number close to 1 with 6 digits; "1" only if it is exactly 1."""
    text = f"{value:.6f}".rstrip("0").rstrip(".")
    return "> 0.999999" if text == "1" and value < 1 else text
