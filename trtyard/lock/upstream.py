"""Fills in the hashes of upstream's files in the headers of the parser's patches.

A patch made without access to upstream's source has ``sha256:unresolved`` in its header. This
module fetches the row's commit with git, which verifies it, applies the series in memory, and
writes the hashes before and after each patch into the headers.
"""

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.file_changes import Change
from trtyard.core.patches.patch_set import UNRESOLVED, Patch, read_series
from trtyard.core.patches.patching import sha256
from trtyard.core.patches.unified_diff import MisfitError, changed
from trtyard.fetching.mirrors import read_mirrors
from trtyard.fetching.sources import Source, fetch_files
from trtyard.lock.patches import PATCHES, patch_sets
from trtyard.matrix.row import Row
from trtyard.system.terminal import say

_FIELD = re.compile(r"([A-Za-z][A-Za-z-]*):")
_OTHER_RELEASE = "the patch is for another release of the file; nothing was written"


def resolved_patches(
    row: Row, folder: Path = PATCHES, *, are_changed: bool = False
) -> list[Change]:
    """Return the changes that fill in unresolved hashes in the row's patches; write nothing.

    A series without unresolved hashes is checked against upstream's files only if ``are_changed``
    (its patches differ from the lock), else skipped. A series whose source cannot be reached is
    skipped too.

    Raises:
        IntegrityError: the source does not match a patch: a hash in its header differs, a file is
            missing, or a hunk does not apply.
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
            result = "the patches' hashes stay unresolved"
            if not is_open:
                result = "the changed patches are not checked"
            say(f"{source.repository} cannot be fetched, {result}: {error.message}")
            return []
        return _filled_series(patches, tree, f"{source.repository} at {source.commit}")


def _filled_series(patches: Sequence[Patch], tree: Path, source: str) -> list[Change]:
    """Apply the series to upstream's files; return the patch files whose header changes."""
    paths = {diff.path for patch in patches for diff in patch.diffs}
    upstream = {path: _content(tree / path) for path in paths}
    texts = dict(upstream)
    changes = []
    for patch in patches:
        for path, expected in patch.applies_to.items():
            found = sha256(upstream[path])
            if upstream[path] is None or expected not in (None, found):
                raise IntegrityError(
                    f"{patch.name}: {path} of {source}: expected sha256 {expected or UNRESOLVED},"
                    f" found {found}",
                    _OTHER_RELEASE,
                )
        for diff in patch.diffs:
            try:
                texts[diff.path] = changed(diff, texts[diff.path])
            except MisfitError as error:
                raise IntegrityError(
                    f"{patch.name} does not apply to {diff.path} of {source}: it {error}",
                    _OTHER_RELEASE,
                ) from None
        results = {diff.path: sha256(texts[diff.path]) for diff in patch.diffs}
        for path, known in patch.results.items():
            if results[path] != known:
                raise IntegrityError(
                    f"{patch.name} applied to {path} of {source} does not give the result in its"
                    f" header: expected sha256 {known}, found {results[path]}",
                    _OTHER_RELEASE,
                )
        hashes = {path: sha256(upstream[path]) for path in patch.applies_to}
        old = patch.file.read_bytes()
        changes.append(Change(patch.file, old, filled(old, hashes, results)))
    return [change for change in changes if change.old != change.new]


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() and not file.is_symlink() else None


def filled(patch: bytes, upstream: Mapping[str, str], results: Mapping[str, str]) -> bytes:
    """Return the patch file with these hashes in its header and an unchanged diff."""
    start = re.search(rb"^(?:diff --git |--- )", patch, re.MULTILINE)
    end = start.start() if start else len(patch)
    lines: list[str] = []
    field = ""
    for line in [*patch[:end].decode("utf-8").splitlines(), ""]:
        name = _FIELD.match(line)
        if (name or not line.strip()) and field == "Applies-To":
            entries = [f"{path} sha256:{found}" for path, found in results.items()]
            lines += [
                f"{'Result:' if not number else ''} {one}" for number, one in enumerate(entries)
            ]
        field = name.group(1) if name else field if line.strip() else ""
        if field == "Applies-To":
            for path, found in upstream.items():
                line = re.sub(
                    rf"(?<= ){re.escape(path)} sha256:{UNRESOLVED}$", f"{path} sha256:{found}", line
                )
        if field != "Result":
            lines.append(line)
    return "\n".join(lines).encode() + patch[end:]
