"""The patch sets in ``patches/``, and those that a row uses."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.patches.patch_set import UNRESOLVED, Patch, deciding_releases, read_series
from trtyard.lock.file import LockedPatch, LockedRow
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.system.terminal import show
from trtyard.system.uv import MATRIX_FILE, ROOT

PATCHES = ROOT / "patches"
TORCH, PARSER = "torch", "onnx-tensorrt"
NEW = "new"  # instead of an upstream file's hash: the patch creates the file


@dataclass(frozen=True, kw_only=True)
class PatchFile:
    """One patch of a row, with the facts for the lock and ``./run patches``."""

    project: str
    version: str  # of the project, the name of the patch's folder
    name: str
    sha256: str  # of the patch file
    what: str
    why: str
    fixes: tuple[str, ...]
    needed_from: str  # the first release that needs it; "" for no lower limit
    needed_until: str  # the first release that does not need it; "" for none yet
    applies_to: Mapping[str, str]  # path to upstream's sha256, "unresolved" or "new"
    results: Mapping[str, str]  # path to the sha256 after this patch, if known
    not_verified: str

    @property
    def path(self) -> str:
        """The path below ``patches/``."""
        return f"{self.project}/{self.version}/{self.name}"


def patch_sets(row: Row, folder: Path = PATCHES) -> tuple[Path, ...]:
    """Return the folders with patches for the row's versions, torch's first."""
    found = []
    for one in sorted(folder.glob("*/*/"), reverse=True):
        project, version = one.parent.name, one.name
        if project == TORCH:
            fits = row.packages[TORCH] == version
        elif project == PARSER:
            fits = row.parser == "patched" and f"{row.tensorrt}.".startswith(f"{version}.")
        else:
            raise UsageError(f"{one} is not for a known project", f"projects: {TORCH}, {PARSER}")
        if fits:
            found.append(one)
    return tuple(found)


def patches_for(row: Row, folder: Path = PATCHES) -> tuple[PatchFile, ...]:
    """Return the patches that the row needs, in the order of application."""
    return tuple(one for one, is_needed in _all_for(row, folder) if is_needed)


def dropped_for(row: Row) -> tuple[PatchFile, ...]:
    """Return the patches for the row's versions that are not needed for its releases."""
    return tuple(one for one, is_needed in _all_for(row, PATCHES) if not is_needed)


def releases_of(row: Row) -> dict[str, str]:
    """Return the releases that decide which patches the row needs: product to version."""
    return deciding_releases(row.flavour, row.tensorrt, row.packages[TORCH])


def patches_now(row: Row, folder: Path = PATCHES) -> tuple[LockedPatch, ...]:
    """Return the lock entries of the row's patches for their current files."""
    return tuple(
        LockedPatch(
            path=one.path,
            sha256=one.sha256,
            applies_to=dict(one.applies_to),
            results=dict(one.results),
        )
        for one in patches_for(row, folder)
    )


def check_patches(row: Row, locked: LockedRow) -> None:
    """Raise ``IntegrityError`` for the first patch of the row that differs from the lock."""
    now = {one.path: one for one in patches_now(row)}
    then = {one.path: one for one in locked.patches}
    for path in sorted({*now, *then}):
        found, expected = now.get(path), then.get(path)
        if found != expected:
            raise IntegrityError(
                f"patches/{path}, row {row.name}: expected sha256"
                f" {expected.sha256 if expected else 'none'}, found"
                f" {found.sha256 if found else 'none'}",
                "git checkout -- patches, or lock the changed patch: ./run lock",
            )


def show_patches(name: str, *, as_json: bool) -> None:
    """Print the patches of one row or of all rows, as text or JSON."""
    matrix = read_matrix(MATRIX_FILE)
    rows = [matrix.row(name)] if name else list(matrix.rows.values())
    if as_json:
        content = [
            {
                "name": row.name,
                "patches": [{"path": one.path, **asdict(one)} for one in patches_for(row)],
                "dropped": [{"path": one.path, **asdict(one)} for one in dropped_for(row)],
            }
            for row in rows
        ]
        show(json.dumps({"schema": 1, "rows": content}, indent=2, ensure_ascii=False))
        return
    for row in rows:
        needed, dropped = patches_for(row), dropped_for(row)
        show(f"{row.name}" + ("" if needed else "   no patches"))
        for one in needed:
            show("\n".join(_lines(one)))
        for one in dropped:
            show(f"  {one.path}   not applied: needed {_when(one)}")


def _all_for(row: Row, folder: Path) -> list[tuple[PatchFile, bool]]:
    releases = releases_of(row)
    return [
        (_described(patch), patch.is_needed(releases))
        for one in patch_sets(row, folder)
        for patch in read_series(one)
    ]


def _described(patch: Patch) -> PatchFile:
    what, _, why = patch.description.partition("\n")
    return PatchFile(
        project=patch.file.parent.parent.name,
        version=patch.file.parent.name,
        name=patch.name,
        sha256=patch.sha256,
        what=what,
        why=" ".join(why.split()),
        fixes=patch.fixes,
        needed_from=str(patch.needed_from or ""),
        needed_until=str(patch.needed_until or ""),
        applies_to={
            diff.path: (patch.applies_to[diff.path] or UNRESOLVED) if diff.old_exists else NEW
            for diff in patch.diffs
        },
        results=dict(patch.results),
        not_verified=patch.not_verified,
    )


def _lines(one: PatchFile) -> list[str]:
    lines = [f"  {one.path}", f"    what     {one.what}"]
    lines += [f"    fixes    {text}" for text in one.fixes]
    lines.append(f"    needed   {_when(one)}")
    for path, upstream in one.applies_to.items():
        known = f"sha256 {upstream[:12]}…" if len(upstream) > len(UNRESOLVED) else upstream
        lines.append(f"    changes  {path} ({known})")
    if one.not_verified:
        lines.append(f"    not verified: {one.not_verified}")
    return lines


def _when(one: PatchFile) -> str:
    limits = (("from", one.needed_from), ("until", one.needed_until))
    return " ".join(f"{word} {release}" for word, release in limits if release) or "by all releases"
