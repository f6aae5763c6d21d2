"""Hashes of upstream's files that the parser's patches change, where its source can be reached.

A patch made where upstream's text could not be had says ``sha256:unresolved`` for it. Here the
row's commit is fetched with git, whose own hashes prove that it is that commit, the whole series is
put onto its files in memory, and the headers get the hashes from before and behind each patch.
"""

import hashlib
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.file_changes import Change
from trtyard.core.patches.patch_set import UNRESOLVED, Patch, read_series
from trtyard.core.patches.unified_diff import MisfitError, changed
from trtyard.fetching.mirrors import read_mirrors
from trtyard.fetching.sources import Source, fetch_files
from trtyard.lock.patches import PATCHES, patch_sets
from trtyard.matrix.row import Row
from trtyard.system.terminal import say

_FIELD = re.compile(r"([A-Za-z][A-Za-z-]*):")
_NOT_OURS = "the patch is for another release of the file; nothing was written"


def resolved_patches(
    row: Row, folder: Path = PATCHES, *, are_changed: bool = False
) -> list[Change]:
    """Return the row's patch files with the hashes that they leave open; nothing is written yet.

    A series without an open hash is left alone unless its patches are not as they were locked; then
    it is held against upstream's files. One whose source cannot be reached is left alone too.

    Raises:
        IntegrityError: the source is not what a patch says: a hash that it names differs, a file is
            missing, or a hunk does not sit.
    """
    changes = []
    for one in patch_sets(row, folder):
        patches = read_series(one)
        repository = next(
            (name for name in row.commits if name.endswith(f"/{one.parent.name}")), ""
        )
        is_open = any(None in patch.applies_to.values() for patch in patches)
        if repository and (is_open or are_changed):
            source = Source(repository=repository, commit=row.commits[repository])
            changes += _resolved(patches, source, is_open=is_open)
    return changes


def _resolved(patches: Sequence[Patch], source: Source, *, is_open: bool) -> list[Change]:
    with tempfile.TemporaryDirectory(prefix="trtyard-upstream-") as name:
        try:
            tree = fetch_files(source, Path(name), read_mirrors())
        except EnvironmentLacksError as error:
            left = "stay unresolved"
            if not is_open:
                left = "cannot be reached, and the changed patches are not held against them"
            say(f"upstream's files of {source.repository} {left}: {error.message}")
            return []
        return _filled_series(patches, tree, f"{source.repository} at {source.commit}")


def _filled_series(patches: Sequence[Patch], tree: Path, source: str) -> list[Change]:
    """Put the series onto upstream's files; return each patch file that has more to say now."""
    paths = {diff.path for patch in patches for diff in patch.diffs}
    upstream = {path: _content(tree / path) for path in paths}
    texts = dict(upstream)
    changes = []
    for patch in patches:
        for path, expected in patch.applies_to.items():
            found = _sha256(upstream[path])
            if upstream[path] is None or expected not in (None, found):
                raise IntegrityError(
                    f"{patch.name}: {path} of {source}: expected sha256 {expected or UNRESOLVED},"
                    f" found {found}",
                    _NOT_OURS,
                )
        for diff in patch.diffs:
            try:
                texts[diff.path] = changed(diff, texts[diff.path])
            except MisfitError as error:
                raise IntegrityError(
                    f"{patch.name} does not sit in {diff.path} of {source}: it {error}", _NOT_OURS
                ) from None
        results = {diff.path: _sha256(texts[diff.path]) for diff in patch.diffs}
        for path, known in patch.results.items():
            if results[path] != known:
                raise IntegrityError(
                    f"{patch.name} makes another {path} of {source} than its header says: expected"
                    f" sha256 {known}, found {results[path]}",
                    _NOT_OURS,
                )
        hashes = {path: _sha256(upstream[path]) for path in patch.applies_to}
        old = patch.file.read_bytes()
        changes.append(Change(patch.file, old, filled(old, hashes, results)))
    return [change for change in changes if change.old != change.new]


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() and not file.is_symlink() else None


def filled(patch: bytes, upstream: Mapping[str, str], results: Mapping[str, str]) -> bytes:
    """Return the patch file with these hashes in its header; the diff stays as it is."""
    start = re.search(rb"^(?:diff --git |--- )", patch, re.MULTILINE)
    end = start.start() if start else len(patch)
    lines: list[str] = []
    field = ""
    for line in [*patch[:end].decode("utf-8").splitlines(), ""]:
        name = _FIELD.match(line)
        if (name or not line.strip()) and field == "Applies-To":
            said = [f"{path} sha256:{found}" for path, found in results.items()]
            lines += [f"{'Result:' if not number else ''} {one}" for number, one in enumerate(said)]
        field = name.group(1) if name else field if line.strip() else ""
        if field == "Applies-To":
            for path, found in upstream.items():
                line = re.sub(
                    rf"(?<= ){re.escape(path)} sha256:{UNRESOLVED}$", f"{path} sha256:{found}", line
                )
        if field != "Result":
            lines.append(line)
    return "\n".join(lines).encode() + patch[end:]


def _sha256(text: bytes | None) -> str:
    return "no file" if text is None else hashlib.sha256(text).hexdigest()
