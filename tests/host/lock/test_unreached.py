"""Parts of a lock that were resolved where their registries answer, and then upgraded elsewhere."""

from dataclasses import replace

import pytest

from trtyard.lock.file import Artifact, Deb, Unresolved, read_lock
from trtyard.lock.relock import relock
from trtyard.lock.unreached import with_earlier
from trtyard.system.uv import LOCK_FILE

INDEX, PLATFORM = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


@pytest.fixture
def now():
    """Return row 11.3 as locked where its base's kind, TensorRT's wheel and the debs are open."""
    locked = read_lock(LOCK_FILE).row("11.3")
    (vendors,) = (one for one in locked.wheels if one.is_vendors)
    return replace(
        locked,
        wheels=tuple(one for one in locked.wheels if one != vendors),
        debs=(),
        snapshot="",
        unresolved=(
            Unresolved(kind="wheel", name=vendors.name, version=vendors.version, reason="silent"),
            Unresolved(kind="debs", name="debian", version="bookworm", reason="silent"),
        ),
    )


@pytest.fixture
def before(now):
    """Return the same row as it is locked where the vendor's registry and index answer."""
    (open_wheel,) = (one for one in now.unresolved if one.kind == "wheel")
    wheel = Artifact(
        name=open_wheel.name,
        version=open_wheel.version,
        filename="a_vendors.whl",
        sha256="1" * 64,
        size=1,
        pythons=("3.11",),
    )
    deb = Deb(name="bash", version="1", architecture="amd64", stage="base", sha256="", size=0)
    base = replace(now.base, digest_kind="index", platform_digest=PLATFORM)
    wheels = tuple(sorted((*now.wheels, wheel), key=lambda one: one.filename))
    time = "20260101T000000Z"
    return replace(now, base=base, wheels=wheels, debs=(deb,), unresolved=(), snapshot=time)


def kinds(locked):
    return {one.kind for one in locked.unresolved}


def test_unreachable_entry_is_kept_with_a_message(now, before, capsys):
    assert kinds(now) == {"wheel", "debs"}
    assert with_earlier(now, before) == before
    said = capsys.readouterr().err
    assert now.base.image in said
    assert "tensorrt-cu13-libs" in said


def test_reachable_entry_is_updated(now, before):
    newer = replace(before.wheels[0], version="9", filename="newer.whl")
    base = replace(before.base, digest=INDEX)
    reached = replace(
        now,
        base=base,
        wheels=(newer,),
        debs=before.debs,
        unresolved=(),
        snapshot="20270101T000000Z",
    )
    assert with_earlier(reached, before) == reached
    assert with_earlier(now, None) == now
    assert with_earlier(now, now) == now


def test_changed_row_keeps_only_equal_wheels_and_base(now, before):
    changed = replace(now, matrix_sha256="2" * 64)
    kept = with_earlier(changed, before)
    assert (kept.base, kept.wheels, kept.debs) == (before.base, before.wheels, now.debs)
    assert kinds(kept) == {"debs"}


@pytest.mark.parametrize("change", [{"image": "other:1"}, {"digest": INDEX}])
def test_changed_base_does_not_keep_old_packages(now, before, change):
    kept = with_earlier(replace(now, base=replace(now.base, **change)), before)
    assert kept.base == replace(now.base, **change)
    assert ("debs" in kinds(kept)) == ("digest" in change)


def test_wheel_of_another_version_is_dropped(now, before):
    open_parts = tuple(
        replace(one, version="99") if one.kind == "wheel" else one for one in now.unresolved
    )
    kept = with_earlier(replace(now, unresolved=open_parts), before)
    assert "wheel" in kinds(kept)
    assert kept.wheels == now.wheels


def test_unresolved_base_keeps_the_earlier_digest(now, before):
    reason = Unresolved(kind="base-image", name="nvcr.io/x", version="1", reason="silent")
    silent = replace(
        now, base=replace(now.base, digest="unresolved"), unresolved=(*now.unresolved, reason)
    )
    assert with_earlier(silent, before) == before


def test_upgrade_without_vendor_registry_keeps_the_lock(now, before, monkeypatch):
    rows = {**read_lock(LOCK_FILE).rows, "11.3": before}
    written = {}

    class EnoughError(Exception):
        pass

    def write_lock(_file, lock):
        written.update(lock.rows)
        raise EnoughError

    monkeypatch.setattr("trtyard.lock.relock._locked_before", lambda: rows)
    monkeypatch.setattr("trtyard.lock.relock.resolved_patches", lambda _row, **_: ())
    monkeypatch.setattr("trtyard.lock.resolve.resolve_row", lambda _row, _before: now)
    monkeypatch.setattr("trtyard.lock.relock.write_lock", write_lock)
    with pytest.raises(EnoughError):
        relock(upgrade="11.3")
    assert written["11.3"] == before
