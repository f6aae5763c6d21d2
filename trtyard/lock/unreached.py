"""Keeps entries of an earlier lock that cannot be reached now.

Hashes stay valid, so a registry that does not answer today must not remove entries from the lock.
"""

from dataclasses import replace

from trtyard.lock.file import LockedBase, LockedRow, UnresolvedKind
from trtyard.matrix.row import UNRESOLVED
from trtyard.system.terminal import say


def with_earlier(now: LockedRow, before: LockedRow | None) -> LockedRow:
    """Return ``now`` with its unresolved entries replaced by those of ``before`` that still fit.

    Prints the entries that are kept. Distribution packages depend on the whole row, so they are
    only kept if the row is unchanged.
    """
    if before is None:
        return now
    kept: dict[UnresolvedKind, set[str]] = {"wheel": set(), "debs": set(), "base-image": set()}
    wanted = {(one.name, one.version) for one in now.unresolved if one.kind == "wheel"}
    wheels = tuple(one for one in before.wheels if (one.name, one.version) in wanted)
    kept["wheel"] = {one.name for one in wheels}
    base = before.base if _tells_more(before.base, now.base) else now.base
    if base != now.base:
        kept["base-image"] = {one.name for one in now.unresolved if one.kind == "base-image"}
        say(f"row {now.name}: kept the earlier lock of {base.image}")
    debs = now.debs
    same = before.matrix_sha256 == now.matrix_sha256 and before.base.digest == base.digest
    if same and before.debs and not any(one.kind == "debs" for one in before.unresolved):
        kept["debs"] = {one.name for one in now.unresolved if one.kind == "debs"}
        debs = before.debs if kept["debs"] else now.debs
    for kind in ("wheel", "debs"):
        if kept[kind]:
            say(f"row {now.name}: kept the earlier lock of {kind} {', '.join(sorted(kept[kind]))}")
    return replace(
        now,
        base=base,
        wheels=tuple(sorted((*now.wheels, *wheels), key=lambda one: one.filename)),
        debs=debs,
        snapshot=before.snapshot if kept["debs"] else now.snapshot,
        unresolved=tuple(
            one for one in now.unresolved if one.name not in kept.get(one.kind, set())
        ),
    )


def _tells_more(before: LockedBase, now: LockedBase) -> bool:
    """Tell whether ``before`` is the same image and has a digest or kind that ``now`` lacks."""
    return (
        before.image == now.image
        and before.digest_kind != "unknown"
        and now.digest_kind == "unknown"
        and before.digest != UNRESOLVED
        and now.digest in (UNRESOLVED, before.digest)
    )
