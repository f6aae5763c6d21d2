"""Describes the differences between two locks: versions, hashes and unresolved entries."""

from collections.abc import Iterator, Mapping

from trtyard.lock.file import LockedRow

_NOTHING = ""


def difference(before: Mapping[str, LockedRow], after: Mapping[str, LockedRow]) -> Iterator[str]:
    """Yield one line for each row, and one for each entry that was added, removed or changed."""
    for name in sorted({*before, *after}):
        if name not in before:
            yield f"{name}: new row, {_size(after[name])}"
        elif name not in after:
            yield f"{name}: row removed"
        else:
            lines = list(_of_row(before[name], after[name]))
            yield f"{name}: {f'{len(lines)} differences' if lines else 'no differences'}"
            yield from (f"  {line}" for line in lines)


def _of_row(before: LockedRow, after: LockedRow) -> Iterator[str]:
    yield from _of_parts(_base(before), _base(after))
    yield from _of_parts(_packages(before), _packages(after))
    yield from _of_parts(_debs(before), _debs(after))
    yield from _of_parts(_patches(before), _patches(after))
    yield from _of_parts(_unresolved(before), _unresolved(after))


def _of_parts(
    before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    """Yield a line for each changed version, and for each new hash of the same version."""
    for name in sorted({*before, *after}):
        (old, old_hash), (new, new_hash) = (
            side.get(name, (_NOTHING, _NOTHING)) for side in (before, after)
        )
        if old != new:
            yield f"{name}: {old or '(none)'} -> {new or '(none)'}"
        elif old_hash != new_hash:
            yield f"{name}: {old}, but DIFFERENT FILE: {old_hash} -> {new_hash}"


def _base(row: LockedRow) -> dict[str, tuple[str, str]]:
    kind = f"{row.base.digest} ({row.base.digest_kind})"
    return {f"base {row.base.image}": (kind, row.base.platform_digest)}


def _packages(row: LockedRow) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for one in (*row.wheels, *row.sdists, *row.gpu):
        for python in one.pythons:
            found[f"{one.name} (Python {python})"] = (one.version, one.sha256)
    return found


def _debs(row: LockedRow) -> dict[str, tuple[str, str]]:
    return {f"deb {deb.name}": (deb.version, deb.sha256) for deb in row.debs}


def _patches(row: LockedRow) -> dict[str, tuple[str, str]]:
    found = {f"patch {one.path}": (one.sha256, "") for one in row.patches}
    for one in row.patches:
        for path, upstream in one.applies_to.items():
            found[f"patch {one.path}: {path} of upstream"] = (upstream, "")
        for path, result in one.results.items():
            found[f"patch {one.path}: {path} after the patch"] = (result, "")
    return found


def _unresolved(row: LockedRow) -> dict[str, tuple[str, str]]:
    return {f"unresolved {one.kind} {one.name}": (one.version, "") for one in row.unresolved}


def _size(row: LockedRow) -> str:
    return f"{len(row.wheels)} wheels, {len(row.debs)} debs, {len(row.unresolved)} unresolved"
