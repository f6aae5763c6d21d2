"""The patch sets of ``patches/``, and which of them a row takes."""

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
NEW = "new"  # in place of an upstream file's hash: the patch makes the file


@dataclass(frozen=True, kw_only=True)
class PatchFile:
    """One patch of a row, as the lock names it and ``./run patches`` shows it."""

    project: str
    version: str  # of the project, as its folder is named
    name: str
    sha256: str  # of the patch file
    what: str
    why: str
    fixes: tuple[str, ...]
    needed_from: str  # "" for any release before
    needed_until: str  # the first release that does without; "" for none yet
    applies_to: Mapping[str, str]  # path to upstream's sha256, "unresolved" or "new"
    results: Mapping[str, str]  # path to the sha256 behind this patch; only where it is known
    not_verified: str

    @property
    def path(self) -> str:
        """The file below ``patches/``."""
        return f"{self.project}/{self.version}/{self.name}"


def patch_sets(row: Row, folder: Path = PATCHES) -> tuple[Path, ...]:
    """Return the folders of the patches made for what the row holds, the torch ones first."""
    found = []
    for one in sorted(folder.glob("*/*/"), reverse=True):
        project, version = one.parent.name, one.name
        if project == TORCH:
            fits = row.packages[TORCH] == version
        elif project == PARSER:
            fits = row.parser == "patched" and f"{row.tensorrt}.".startswith(f"{version}.")
        else:
            raise UsageError(f"no row knows what {one} is for", f"projects: {TORCH}, {PARSER}")
        if fits:
            found.append(one)
    return tuple(found)


def patches_for(row: Row, folder: Path = PATCHES) -> tuple[PatchFile, ...]:
    """Return the patches that the row needs, in the order they are applied."""
    return tuple(one for one, is_needed in _all_for(row, folder) if is_needed)


def dropped_for(row: Row, folder: Path = PATCHES) -> tuple[PatchFile, ...]:
    """Return the patches made for what the row holds whose time is over, or has not come."""
    return tuple(one for one, is_needed in _all_for(row, folder) if not is_needed)


def releases_of(row: Row) -> dict[str, str]:
    """Return what decides about a patch of the row: product to version."""
    return deciding_releases(row.flavour, row.tensorrt, row.packages[TORCH])


def patches_now(row: Row, folder: Path = PATCHES) -> tuple[LockedPatch, ...]:
    """Return the row's patches as the lock would have them, by the files as they are now."""
    return tuple(
        LockedPatch(
            path=one.path,
            sha256=one.sha256,
            applies_to=dict(one.applies_to),
            results=dict(one.results),
        )
        for one in patches_for(row, folder)
    )


def check_patches(row: Row, locked: LockedRow, folder: Path = PATCHES) -> None:
    """``IntegrityError`` naming the first of the row's patches that is not as the lock has it."""
    now = {one.path: one for one in patches_now(row, folder)}
    then = {one.path: one for one in locked.patches}
    for path in sorted({*now, *then}):
        found, expected = now.get(path), then.get(path)
        if found != expected:
            raise IntegrityError(
                f"patches/{path}, row {row.name}: expected sha256"
                f" {expected.sha256 if expected else 'none'}, found"
                f" {found.sha256 if found else 'none'}",
                "git checkout -- patches, or lock what it is now: ./run lock",
            )


def show_patches(name: str, *, as_json: bool) -> None:
    """Print the patches of one row, or of all: what, why, until when."""
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
        show(f"{row.name}" + ("" if needed else "   needs none"))
        for one in needed:
            show("\n".join(_lines(one)))
        for one in dropped:
            show(f"  {one.path}   not needed here: {_when(one)}")


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
    lines += [f"    cures    {text}" for text in one.fixes]
    lines.append(f"    needed   {_when(one)}")
    for path, upstream in one.applies_to.items():
        known = f"sha256 {upstream[:12]}…" if len(upstream) > len(UNRESOLVED) else upstream
        lines.append(f"    changes  {path} ({known})")
    if one.not_verified:
        lines.append(f"    not verified: {one.not_verified}")
    return lines


def _when(one: PatchFile) -> str:
    start = f"from {one.needed_from} " if one.needed_from else ""
    return start + (f"until {one.needed_until}" if one.needed_until else "as long as the row is")
