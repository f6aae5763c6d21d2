from dataclasses import replace

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.difference import difference
from trtyard.lock.file import Unresolved, read_lock, refuse_unresolved
from trtyard.system.uv import LOCK_FILE

ROWS = read_lock(LOCK_FILE).rows
RTX = ROWS["rtx-1.7"]


def lines(after):
    return list(difference({"rtx-1.7": RTX}, {"rtx-1.7": after}))


def with_wheel(name, **change):
    wheels = tuple(replace(one, **change) if one.name == name else one for one in RTX.wheels)
    return replace(RTX, wheels=wheels)


def test_equal_locks_have_no_differences():
    assert lines(RTX) == ["rtx-1.7: no differences"]


def test_version_change_is_shown_per_python():
    found = lines(with_wheel("torch", version="2.13.1"))
    assert found[0] == f"rtx-1.7: {len(found) - 1} differences"
    assert "  torch (Python 3.11): 2.13.0 -> 2.13.1" in found
    assert len(found) == 1 + 5


def test_new_hash_of_the_same_version_is_highlighted():
    found = lines(with_wheel("torch", sha256="0" * 64))
    assert len(found) == 1 + 5
    assert all("DIFFERENT FILE" in line and "0" * 64 in line for line in found[1:])


def test_added_and_removed_packages_are_shown():
    gone = replace(RTX, debs=RTX.debs[1:])
    assert f"  deb {RTX.debs[0].name}: {RTX.debs[0].version} -> (none)" in lines(gone)
    open_part = Unresolved(kind="wheel", name="demo", version="1.0", reason="none has it")
    assert "  unresolved wheel demo: (none) -> 1.0" in lines(replace(RTX, unresolved=(open_part,)))
    moved = replace(RTX, base=replace(RTX.base, digest="sha256:" + "0" * 64))
    assert any("base debian:bookworm-slim" in line and "0" * 64 in line for line in lines(moved))


def test_rows_come_and_go():
    (line,) = difference({}, {"8.6": ROWS["8.6"]})
    assert line.startswith("8.6: new row, ")
    assert list(difference({"8.6": ROWS["8.6"]}, {})) == ["8.6: row removed"]


def test_unresolved_entries_are_listed_with_a_hint():
    refuse_unresolved(RTX)
    with pytest.raises(EnvironmentLacksError) as caught:
        refuse_unresolved(ROWS["7.0"])
    for one in ROWS["7.0"].unresolved:
        assert f"{one.kind} {one.name} {one.version}: {one.reason}" in caught.value.message
    assert "./run lock --upgrade 7.0" in caught.value.hint
    assert caught.value.exit_code == 3
