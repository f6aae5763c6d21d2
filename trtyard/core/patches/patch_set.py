"""Read the patches and their headers in ``patches/<project>/<version>/``.

The file ``series`` lists the patches in the order they are applied, one per line; ``#`` starts a
comment. A patch has a DEP-3 header, with the additional fields in docs/patches.md, and a unified
diff.
"""

import hashlib
import re
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.patches.unified_diff import DiffError, FileDiff, parse

UNRESOLVED = "unresolved"  # instead of a hash: the upstream file could not be read yet
PRODUCTS = ("tensorrt", "torch")

_REQUIRED = ("Description", "Origin", "Forwarded", "Last-Update", "Applies-To", "Fixes")
_OPTIONAL = ("Result", "Needed-From", "Needed-Until", "Read-At", "Not-Verified")
_FIELD = re.compile(r"([A-Za-z][A-Za-z-]*):[ \t]*(.*)")
_HASHED = re.compile(r"(\S+) sha256:([0-9a-f]{64}|unresolved)")
_NEW = re.compile(r"(\S+) new")
_BOUND = re.compile(r"(tensorrt|torch) (\d+(?:\.\d+)*)")


def deciding_releases(flavour: str, tensorrt: str, torch: str) -> Dict[str, str]:
    """Return the versions that decide which patches a row needs, by product.

    TensorRT for RTX (flavour "rtx") has its own release numbers, so bounds for TensorRT do not
    apply to it.
    """
    found = {"torch": torch}
    return found if flavour == "rtx" else {**found, "tensorrt": tensorrt}


class Bound(NamedTuple):
    """A release that decides whether a patch is needed."""

    product: str
    release: Tuple[int, ...]

    def __str__(self) -> str:
        return "{} {}".format(self.product, ".".join(map(str, self.release)))


class Patch(NamedTuple):
    """One patch file."""

    file: Path
    sha256: str  # of the patch file itself
    description: str
    origin: str
    forwarded: str
    applies_to: Mapping[str, Optional[str]]  # path to the upstream file's hash; None: unresolved
    results: Mapping[str, str]  # path to the hash after this patch and all before it
    needed_from: Optional[Bound]
    needed_until: Optional[Bound]  # the first release that does not need it
    fixes: Tuple[str, ...]  # the errors that occur without it
    not_verified: str  # what could not be tested
    diffs: Tuple[FileDiff, ...]

    @property
    def name(self) -> str:
        """The file's name, as in the series."""
        return self.file.name

    def is_needed(self, releases: Mapping[str, str]) -> bool:
        """Return whether a row with these releases (product to version) needs the patch.

        A bound for a product that is not in ``releases`` never holds.
        """
        for bound, until in ((self.needed_from, False), (self.needed_until, True)):
            if bound is None:
                continue
            if bound.product not in releases:
                return False
            if (_release(releases[bound.product]) < bound.release) != until:
                return False
        return True


def read_series(folder: Path) -> Tuple[Patch, ...]:
    """Return a folder's patches in the order of its series.

    Raises:
        UsageError: a file is missing, not in the series, or not a valid patch.
    """
    try:
        text = (folder / "series").read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {folder / 'series'}: {error.strerror}") from None
    names = [line.partition("#")[0].strip() for line in text.splitlines()]
    names = [name for name in names if name]
    present = {file.name for file in folder.glob("*.patch")}
    if len(set(names)) != len(names) or set(names) != present:
        wrong = sorted(set(names) ^ present) or "a name twice"
        raise UsageError(f"{folder / 'series'} does not list the patches in its folder: {wrong}")
    patches = tuple(read_patch(folder / name) for name in names)
    _check_agreement(patches)
    return patches


def read_patch(file: Path) -> Patch:
    """Return the patch in a file.

    Raises:
        UsageError: the file is not a valid patch; the message says what is wrong.
    """
    data = file.read_bytes()
    start = re.search(rb"^(?:diff --git |--- )", data, re.MULTILINE)
    try:
        if start is None:
            raise DiffError("it has no diff")
        fields = _read_fields(data[: start.start()].decode("utf-8"))
        diffs = parse(data[start.start() :])
        hashes = _read_hashes(fields["Applies-To"], diffs)
        results = _read_results(fields.get("Result", []), diffs)
        bounds = [_read_bound(fields, name) for name in ("Needed-From", "Needed-Until")]
    except ValueError as error:
        raise UsageError(f"{file}: {error}", "docs/patches.md describes the format") from None
    return Patch(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        description="\n".join(fields["Description"]),
        origin=" ".join(fields["Origin"]),
        forwarded=" ".join(fields["Forwarded"]),
        applies_to=hashes,
        results=results,
        needed_from=bounds[0],
        needed_until=bounds[1],
        fixes=tuple(fields["Fixes"]),
        not_verified=" ".join(fields.get("Not-Verified", [])),
        diffs=diffs,
    )


def _check_agreement(patches: Sequence[Patch]) -> None:
    """Raise ``IntegrityError`` if patches of a series have different hashes of an upstream file."""
    seen: Dict[str, Patch] = {}
    for patch in patches:
        for path, expected in patch.applies_to.items():
            first = seen.setdefault(path, patch)
            if first.applies_to[path] != expected:
                raise IntegrityError(
                    f"{patch.file} and {first.name} have different hashes of upstream's {path}:"
                    f" expected sha256 {first.applies_to[path]}, found {expected}",
                    "make both patches for the same release",
                )


def _read_fields(header: str) -> Dict[str, List[str]]:
    """Return the header's fields; a line that starts with a space continues a field."""
    fields: Dict[str, List[str]] = {}
    lines: List[str] = []
    for number, line in enumerate(header.splitlines(), 1):
        field = _FIELD.fullmatch(line)
        if field is not None:
            if field.group(1) not in _REQUIRED + _OPTIONAL or field.group(1) in fields:
                raise ValueError(f"line {number}: field {field.group(1)} is unknown or repeated")
            lines = fields[field.group(1)] = [field.group(2)] if field.group(2) else []
        elif line[:1] == " " and line.strip() and fields:
            lines.append(line.strip())
        elif line.strip():
            raise ValueError(f"line {number}: neither a field nor its continuation")
    for name in _REQUIRED:
        if not fields.get(name):
            raise ValueError(f"the header has no {name}")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", " ".join(fields["Last-Update"])):
        raise ValueError("Last-Update must be a date like 2026-01-31")
    return fields


def _read_hashes(lines: Sequence[str], diffs: Sequence[FileDiff]) -> Dict[str, Optional[str]]:
    hashes: Dict[str, Optional[str]] = {}
    new = set()
    for line in lines:
        hashed, made = _HASHED.fullmatch(line), _NEW.fullmatch(line)
        if hashed is not None:
            hashes[hashed.group(1)] = None if hashed.group(2) == UNRESOLVED else hashed.group(2)
        elif made is not None:
            new.add(made.group(1))
        else:
            raise ValueError(f"Applies-To must be PATH sha256:HEX or PATH new, not {line!r}")
    if set(hashes) != {one.path for one in diffs if one.old_exists}:
        raise ValueError("Applies-To must list exactly the files that the diff changes")
    if new != {one.path for one in diffs if not one.old_exists}:
        raise ValueError("Applies-To must list as new exactly the files that the diff adds")
    return hashes


def _read_results(lines: Sequence[str], diffs: Sequence[FileDiff]) -> Dict[str, str]:
    matches = [_HASHED.fullmatch(line) for line in lines]
    results = {match.group(1): match.group(2) for match in matches if match is not None}
    if len(results) != len(lines) or UNRESOLVED in results.values():
        raise ValueError("Result must be lines of PATH sha256:HEX, one per file")
    if not set(results) <= {one.path for one in diffs}:
        raise ValueError("Result has a file that the diff does not change")
    return results


def _read_bound(fields: Mapping[str, List[str]], name: str) -> Optional[Bound]:
    if name not in fields:
        return None
    match = _BOUND.fullmatch(" ".join(fields[name]))
    if match is None:
        raise ValueError(f"{name} must be one of {', '.join(PRODUCTS)} and a release")
    return Bound(match.group(1), _release(match.group(2)))


def _release(version: str) -> Tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))
