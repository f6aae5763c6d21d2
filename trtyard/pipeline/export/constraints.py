"""A dimension that torch.export cannot keep open: which one, and which line fixes it.

torch.export names the dimension and not the line. It logs every decision that it makes about a
size at the moment when the model's code asks for it, so that the stack of that moment has the line.
"""

import contextlib
import logging
import re
import traceback
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from trtyard.core.errors import ConversionError
from trtyard.pipeline.export.axes import Axes
from trtyard.pipeline.onnx_model.origin import last_line_in

VIOLATED = "Constraints violated ("

_LOGGER = "torch.fx.experimental.symbolic_shapes"
_SYMBOL = re.compile(r"create_symbol (\w+) = (\d+) for ")
_GUARD = re.compile(r"eval (?!\[guard suppressed\])(.+?) \[guard added\]")
_EXPORT = "/trtyard/pipeline/export/"
_LOGGING = str(Path(logging.__file__).parent)

_FIXED = re.compile(
    r"marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)"
)
_EQUAL = re.compile(r"The values of (\w+) = \S+ and (\w+) = \S+ must always be equal")
_PART = re.compile(r"Not all values of (\w+) = ")
_BOUNDS = re.compile(r"^\s*(\w+) = Dim\('\w+'(?:, min=(\d+))?(?:, max=(\d+))?\)$", re.MULTILINE)
_MULTIPLE = re.compile(r"^\s*(\w+) = (\d+)\*_\w+$", re.MULTILINE)


class Guard(NamedTuple):
    """A decision about sizes."""

    expression: str  # such as "Eq(s77, 5)"
    line: Optional[str]  # of the model's own code


class Decisions(logging.Handler):
    """What torch.export decides about sizes while it is listened to."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.symbols: Dict[str, int] = {}  # the size of each in the trace
        self.guards: List[Guard] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a decision with the line that asked for it."""
        words = record.getMessage()
        symbol, guard = _SYMBOL.search(words), _GUARD.search(words)
        if symbol is not None:
            self.symbols[symbol.group(1)] = int(symbol.group(2))
        elif guard is not None:
            self.guards.append(Guard(guard.group(1), _model_line()))

    def line_for(self, name: str, axes: Axes) -> Optional[str]:
        """Return the line that decided about the dimension, and first of all that fixed it."""
        size = axes.traced.get(name)
        symbols = [symbol for symbol, traced in self.symbols.items() if traced == size]
        about = [
            guard
            for guard in self.guards
            if guard.line and any(re.search(rf"\b{one}\b", guard.expression) for one in symbols)
        ]
        fixing = [guard for guard in about if guard.expression in _fixing(symbols, size)]
        others = [guard for guard in about if not guard.expression.startswith("Ne(")]
        for guard in (*fixing, *others, *about):
            return guard.line
        return None


@contextlib.contextmanager
def decisions() -> Iterator[Decisions]:
    """Listen to torch.export in the block."""
    logger, listener = logging.getLogger(_LOGGER), Decisions()
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.INFO)
    try:
        yield listener
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


def constraint_error(words: str, heard: Decisions, axes: Axes) -> ConversionError:
    """Return the error for a violated constraint of torch.export."""
    lines, hints = [], []
    for name, problem, hint in _problems(words, axes):
        lines.append(f"  {name}: {problem}")
        line = heard.line_for(name, axes)
        if line:
            lines.append(f"  at {line}")
        hints.append(hint)
    message = "\n".join(["torch.export cannot keep these dimensions open", *lines])
    # Without torch's own words: what is known of them in general says less than these lines.
    return ConversionError(message, "; ".join(dict.fromkeys(hints)) or None)


def required_multiples(words: str) -> Dict[str, int]:
    """Return the number of which torch.export wants a dimension to be a multiple, by its name."""
    return {name: int(number) for name, number in _MULTIPLE.findall(words)}


def _problems(words: str, axes: Axes) -> List[Tuple[str, str, str]]:
    """Return dimension, problem and hint of each violation, each dimension once."""
    found: Dict[str, Tuple[str, str, str]] = {}
    multiples = required_multiples(words)
    bounds = {name: (least, most) for name, least, most in _BOUNDS.findall(words)}
    for name, size in _FIXED.findall(words):
        found[name] = (
            name,
            f"{_range(name, axes)} was asked for, and the code fixes it to {size}, its size in the "
            "trace",
            "compute with x.shape[i] itself: int(), len(), .item() and comparisons of it make it a "
            "constant; or give the one size that you need",
        )
    for first, second in _EQUAL.findall(words):
        found[first] = (
            first,
            f"it must equal {second} in this code",
            f"give both dimensions one name: [{second}={_range(second, axes)}] and [{second}]",
        )
    for name in dict.fromkeys(_PART.findall(words)):
        if name in found:
            continue
        problem, hint = "the code takes only some of these sizes", "give a smaller range"
        if name in multiples:
            number = multiples[name]
            problem = f"the code needs a multiple of {number}"
            hint = f"give a range of multiples of {number}: {number}:{4 * number}:{16 * number}"
        elif name in bounds:
            least, most = bounds[name]
            limits = [f"from {least}" if least else "", f"up to {most}" if most else ""]
            problem = f"the code takes sizes {' '.join(filter(None, limits))} only on this path"
            hint = "give a range on one side of that limit, or take both with torch.where"
        found[name] = (name, f"{_range(name, axes)} was asked for, and {problem}", hint)
    return list(found.values())


def _range(name: str, axes: Axes) -> str:
    least, most = axes.limits.get(name, (0, 0))
    return f"{least}..{most}"


def _fixing(symbols: List[str], size: Optional[int]) -> List[str]:
    return [f"Eq({symbol}, {size})" for symbol in symbols]


def _model_line() -> Optional[str]:
    """Return the line of the model's own code on this thread's stack."""
    called: List[str] = []
    for frame in traceback.extract_stack():
        if _EXPORT in frame.filename:
            called = []  # the export calls the model, and the logger calls this module
        elif not frame.filename.startswith(_LOGGING):
            called += traceback.format_list([frame])
        else:
            break
    return last_line_in("".join(called))
