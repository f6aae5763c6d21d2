"""The text of ``--input``: shapes, types, names, and ranges of sizes.

::

    text    = profile (";" profile)*
    profile = input ("," input)*
    input   = [NAME "="] size ("x" size)* [":" TYPE [":" VALUES]]
    size    = numbers | "[" LABEL ["=" numbers] "]"
    numbers = N | MIN ".." MAX | MIN ":" OPT ":" MAX

A type starts with a letter and a size does not, so that their colons cannot be confused.
"""

import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.pipeline.dynamic.dimensions import Axes, Profile, Range, usual_size

EXAMPLE = "--input 1x3x224x224"
RANGE_EXAMPLE = "--input 1..16x3x224x224, or with the size to optimize for: 1:4:16x3x224x224"
BATCH = "batch"

_WORD = r"[A-Za-z_][A-Za-z0-9_]*"
_NUMBERS = r"[0-9]+(?:\.\.[0-9]+|:[0-9]+:[0-9]+)?"
_SIZE = rf"(?:{_NUMBERS}|\[\s*{_WORD}\s*(?:=\s*{_NUMBERS}\s*)?\])"
_INPUT = re.compile(
    rf"\s*(?:({_WORD})\s*=\s*)?({_SIZE}(?:x{_SIZE})*)(?::([a-z]+[0-9]*))?(?::([0-9]+))?\s*\Z"
)
_EACH_SIZE = re.compile(rf"\[\s*({_WORD})\s*(?:=\s*({_NUMBERS})\s*)?\]|({_NUMBERS})")
# A size that is left open, as other tools take it.
_OPEN = re.compile(r"-1|[?*]|(?:^|x)[A-Za-z_]+(?:x|$)")
_RANGE_OF_VALUES = re.compile(r":[a-z]+[0-9]*:[0-9]+(?:\.\.|:)")


class Input(NamedTuple):
    """One input as it was typed; its shape has the usual sizes of the first profile."""

    text: str
    name: str  # empty without one
    shape: Tuple[int, ...]
    kind: Optional[str]  # such as "int64"
    values: Optional[int]  # how many, of whole numbers
    largest: int  # number of elements


class Asked(NamedTuple):
    """What ``--input`` says."""

    inputs: Tuple[Input, ...]
    axes: Axes
    profiles: Tuple[Profile, ...]  # one without dimensions if every size is fixed


class _Size(NamedTuple):
    label: str
    range: Range


class _Read(NamedTuple):
    text: str
    name: str
    sizes: List[_Size]
    kind: Optional[str]
    values: Optional[int]


def read_inputs(text: str, names: Sequence[str] = ()) -> Asked:
    """Read "ids=1..8x[s=1..128]:int64:50,mask=1..8x[s]:bool".

    Args:
        text: what follows ``--input``.
        names: of the dimensions of the one input, where the model has names for them.

    Raises:
        UsageError: it does not follow the grammar, a range is empty, or profiles do not fit.
    """
    profiles = [_profile(each, text) for each in text.split(";")]
    for other in profiles[1:]:
        _require_alike(profiles[0], other, text)
    axes: List[Dict[int, str]] = []
    ranges: List[Profile] = [{} for _ in profiles]
    batch: Optional[List[Range]] = None
    for number, inputs in enumerate(zip(*profiles)):
        axes.append({})
        for index, sizes in enumerate(zip(*(each.sizes for each in inputs))):
            own = [each.range for each in sizes]
            if all(each.is_fixed and each == own[0] for each in own):
                continue
            name = _label(sizes, text)
            if not name and names:
                name = names[index]
            if not name and index == 0 and batch in (None, own):
                name, batch = BATCH, own
            name = name or f"{_called(profiles[0], number)}_dim{index}"
            for profile, one in zip(ranges, own):
                if profile.setdefault(name, one) != one:
                    raise UsageError(
                        f"--input {text}: the dimension {name} has two ranges",
                        "give the other one a name of its own: [n=1..8]x3x224x224",
                    )
            axes[-1][index] = name
    return Asked(tuple(map(_as_asked, zip(*profiles))), tuple(axes), tuple(ranges))


def _as_asked(profiles: Sequence[_Read]) -> Input:
    first = profiles[0]
    largest = 0
    for each in profiles:
        total = 1
        for size in each.sizes:
            total *= size.range.most
        largest = max(largest, total)
    shape = tuple(size.range.usual for size in first.sizes)
    return Input(first.text, first.name, shape, first.kind, first.values, largest)


def _profile(part: str, text: str) -> List[_Read]:
    known: Dict[str, Range] = {}
    inputs = [_input(each, text, known) for each in part.split(",")]
    names = [each.name for each in inputs]
    if any(names) and not all(names):
        raise UsageError(
            f"--input {text}: some inputs have a name and some have none", "name all or none"
        )
    if any(names) and len(set(names)) < len(names):
        raise UsageError(f"--input {text}: two inputs have the same name", "name each once")
    return inputs


def _input(part: str, text: str, known: Dict[str, Range]) -> _Read:
    found = _INPUT.match(part)
    if found is None:
        raise _no_shape(part, text)
    name, shape, kind, values = found.groups()
    sizes = [_size(each, text, known) for each in _EACH_SIZE.finditer(shape)]
    return _Read(part, name or "", sizes, kind, None if values is None else int(values))


def _no_shape(part: str, text: str) -> UsageError:
    hint = EXAMPLE
    if _RANGE_OF_VALUES.search(part):
        return UsageError(
            f"--input {text}: '{part}' has a range behind its type; only sizes take ranges",
            "--input 1..8x16:int64:30522   (whole numbers from 0 to 30521)",
        )
    if ".." in part or ":" in part:
        hint = RANGE_EXAMPLE
    if _OPEN.search(part.strip()):
        hint = f"give the range of a size that varies: {RANGE_EXAMPLE}"
    return UsageError(f"--input {text}: '{part}' is not a shape such as 1x3x224x224", hint)


def _size(found: "re.Match[str]", text: str, known: Dict[str, Range]) -> _Size:
    label, numbers = found.group(1) or "", found.group(2) or found.group(3)
    if numbers is None:
        if label not in known:
            raise UsageError(
                f"--input {text}: [{label}] has no range yet",
                f"give it where the name first appears: [{label}=1..8]",
            )
        return _Size(label, known[label])
    one = _range(numbers, text)
    if label and known.setdefault(label, one) != one:
        raise UsageError(
            f"--input {text}: [{label}] has two ranges in one profile",
            f"write the range once and then [{label}], or use another name",
        )
    return _Size(label, one)


def _range(numbers: str, text: str) -> Range:
    sizes = [int(each) for each in re.split(r"\.\.|:", numbers)]
    if min(sizes) < 1 and len(sizes) > 1:
        raise UsageError(f"--input {text}: {numbers} starts at 0; a size is 1 or more", _again(1))
    if len(sizes) == 1:
        return Range(sizes[0], sizes[0], sizes[0])
    if len(sizes) == 2:
        least, most = sizes
        if least > most:
            raise UsageError(f"--input {text}: {numbers} has min {least} > max {most}", _again(1))
        return Range(least, usual_size(least, most), most)
    one = Range(*sizes)
    if one.least > one.usual:
        problem = f"min {one.least} > opt {one.usual}"
    elif one.usual > one.most:
        problem = f"opt {one.usual} > max {one.most}"
    else:
        return one
    raise UsageError(f"--input {text}: {numbers} has {problem}; the order is min:opt:max", _again())


def _again(least: int = 1) -> str:
    return f"--input {least}..16x3x224x224, or {least}:4:16x3x224x224"


def _require_alike(first: List[_Read], other: List[_Read], text: str) -> None:
    if len(first) != len(other):
        raise UsageError(
            f"--input {text}: one profile has {len(first)} inputs and another one {len(other)}",
            "give every input in each profile",
        )
    for mine, theirs in zip(first, other):
        if len(mine.sizes) != len(theirs.sizes):
            raise UsageError(
                f"--input {text}: '{mine.text.strip()}' has {len(mine.sizes)} dimensions and "
                f"'{theirs.text.strip()}' has {len(theirs.sizes)}; profiles differ only in sizes",
                "--input '1..4x3x224x224;8..16x3x224x224'",
            )
        for what, one, another in (
            ("name", mine.name, theirs.name),
            ("type", mine.kind, theirs.kind),
            ("number of values", mine.values, theirs.values),
        ):
            if another and another != one:
                raise UsageError(
                    f"--input {text}: the {what} of an input is {one or 'not given'} in the first "
                    f"profile and {another} in another one",
                    "give names and types in the first profile",
                )


def _label(sizes: Sequence[_Size], text: str) -> str:
    labels = list(dict.fromkeys(each.label for each in sizes if each.label))
    if len(labels) > 1:
        raise UsageError(
            f"--input {text}: one dimension is called {' and '.join(labels)} in two profiles",
            "give it one name",
        )
    return labels[0] if labels else ""


def _called(inputs: Sequence[_Read], number: int) -> str:
    if inputs[number].name:
        return inputs[number].name
    return "input" if len(inputs) == 1 else f"input_{number}"
