import hashlib
import json
import re
from dataclasses import replace

import pytest

from trtyard.core.errors import IntegrityError
from trtyard.lock.file import Lock, check_lock, read_lock, write_lock
from trtyard.lock.relock import HOST_TXT, check_locks
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


@pytest.fixture(scope="module")
def lock():
    return read_lock(LOCK_FILE)


@pytest.fixture
def tampered(tmp_path):
    """Return a function that reads the real lock with one text put in another's place.

    With ``forged`` the checksum is made to fit again, as someone who knows the format could.
    """

    def tamper(old, new, *, forged=False):
        text = LOCK_FILE.read_text()
        assert old in text
        text = text.replace(old, new, 1)
        if forged:
            content = json.loads(text)
            rest = {key: value for key, value in content.items() if key != "checksum"}
            canonical = json.dumps(
                rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False
            ).encode()
            text = text.replace(content["checksum"], hashlib.sha256(canonical).hexdigest())
        file = tmp_path / "versions.lock"
        file.write_text(text)
        return read_lock(file)

    return tamper


def test_committed_lock_matches_its_inputs():
    check_locks()


def test_lock_round_trip_gives_the_same_bytes(lock, tmp_path):
    write_lock(tmp_path / "versions.lock", lock)
    assert (tmp_path / "versions.lock").read_bytes() == LOCK_FILE.read_bytes()


def test_vendor_index_hash_needs_no_origin(lock, tmp_path):
    row = lock.row("10.16")
    wheels = tuple(
        replace(one, source="vendor", origin="") if one.is_vendors else one for one in row.wheels
    )
    assert wheels != row.wheels
    changed = Lock(rows={**lock.rows, row.name: replace(row, wheels=wheels)})
    write_lock(tmp_path / "versions.lock", changed)
    assert read_lock(tmp_path / "versions.lock") == changed


def test_no_lock_names_a_host():
    for file in (LOCK_FILE, HOST_TXT):
        assert "://" not in file.read_text()


def test_each_python_has_one_wheel_per_package(lock):
    row = read_matrix(MATRIX_FILE).row("rtx")
    locked = lock.row(row.name)
    for python in row.pythons:
        names = [wheel.name for wheel in locked.wheels_for(python)]
        assert len(names) == len(set(names)) > 50
        assert [sdist.name for sdist in locked.sdists_for(python)] == ["pycuda"]


def test_requirements_have_one_hash_per_package(lock):
    lines = lock.row("rtx-1.7").requirements("3.11").splitlines()
    pattern = r"[a-z0-9-]+==[\w.+]+ --hash=sha256:[0-9a-f]{64}"
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert any(line.startswith("torch==2.13.0 ") for line in lines)


def test_debs_are_complete_and_of_one_release(lock):
    debs = {deb.name: deb for deb in lock.row("rtx-1.7").debs}
    assert debs["libc6"].stage == "base"
    assert debs["python3"].stage == "runtime"
    assert debs["g++"].stage == "build"
    assert "perl" not in {deb.name for deb in lock.row("rtx-1.7").debs_of("base", "runtime")}
    assert debs["libc6"].version.startswith("2.36-")  # bookworm's


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"size": 46018', '"size": 46019'),
        ('"name": "torch", "version": "2.13.0"', '"name": "torch", "version": "2.13.1"'),
        ('"digest_kind": "unknown"', '"digest_kind": "index"'),
        ('"stage": "base"', '"stage": "build"'),
        ('"pythons": ["3.10"]', '"pythons": ["3.11"]'),
    ],
)
def test_a_changed_line_is_found_and_both_hashes_are_named(tampered, old, new):
    with pytest.raises(IntegrityError) as caught:
        tampered(old, new)
    assert "versions.lock" in caught.value.message
    hashes = re.findall(r"[0-9a-f]{64}", caught.value.message)
    assert len(set(hashes)) == 2
    assert hashes[0] == json.loads(LOCK_FILE.read_text())["checksum"]
    assert caught.value.exit_code == 5


def test_lock_check_ignores_layout(tampered, lock):
    assert tampered('"schema": 3', '"schema":   3') == lock


def test_valid_checksum_does_not_hide_a_changed_version(tampered):
    forged = tampered(
        '"name": "torch", "version": "2.13.0"',
        '"name": "torch", "version": "2.13.1"',
        forged=True,
    )
    with pytest.raises(IntegrityError, match=r"torch is 2\.13\.1, .*asks for 2\.13\.0"):
        check_lock(read_matrix(MATRIX_FILE), forged)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"sha256": "', '"sha256": "x', "64 hex digits"),
        ('"size": 46018', '"size": -1', "whole number"),
        ('"size": 46018', '"bytes": 46018', "size is missing"),
        ('"filename": "', '"filename": "../', "a file name"),
        ('"architecture": "amd64"', '"architecture": "arm64"', "amd64, all"),
    ],
)
def test_a_forged_lock_is_still_validated(tampered, old, new, words):
    with pytest.raises(IntegrityError, match=words):
        tampered(old, new, forged=True)


def test_a_lock_of_another_matrix_is_refused(tmp_path, lock):
    file = tmp_path / "versions.toml"
    file.write_text(MATRIX_FILE.read_text().replace("opset = 18", "opset = 19"))
    with pytest.raises(IntegrityError, match=r"does not match versions\.toml: row rtx-1\.7"):
        check_lock(read_matrix(file), lock)


def test_a_forged_lock_with_two_wheels_of_one_package_is_refused(tampered):
    line = next(line for line in LOCK_FILE.read_text().splitlines() if "numpy-2.2.6-cp310" in line)
    doubled = line.replace('["3.10"]', '["3.11"]')
    with pytest.raises(IntegrityError, match=r"numpy twice for Python 3\.11"):
        tampered(line, doubled, forged=True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"checksum": 1}'])
def test_damaged_lock_is_reported(tmp_path, content):
    file = tmp_path / "versions.lock"
    file.write_text(content)
    with pytest.raises(IntegrityError, match=r"versions\.lock"):
        read_lock(file)


def test_missing_lock_is_reported(tmp_path):
    with pytest.raises(IntegrityError, match="is missing"):
        read_lock(tmp_path / "versions.lock")


@pytest.mark.parametrize("change", ["edited", "dropped"])
def test_changed_patch_exits_with_5_and_shows_both_hashes(tasks, checkout, change):
    assert tasks("lock", "--check", root=checkout).returncode == 0
    series = checkout / "patches" / "torch" / "1.4.0"
    name = "topk-of-opset-9.patch"
    if change == "edited":
        file = series / name
        file.write_text(file.read_text().replace("Last-Update: 2026", "Last-Update: 2027"))
    else:
        text = (series / "series").read_text()
        (series / "series").write_text(text.replace(f"{name}\n", ""))
        (series / name).unlink()
    (locked,) = [one for one in read_lock(LOCK_FILE).row("7.0").patches if name in one.path]
    convert = ("convert", "--trt", "7.0", "--model", "alexnet", "--until", "onnx", "--in", "host")
    lines = [("lock", "--check"), (*convert, "--dry-run")]
    if change == "edited":  # with one dropped the rendered files are others too
        lines.append(("build", "--trt", "7.0", "--dry-run"))
    for words in lines:
        done = tasks(*words, root=checkout)
        assert done.returncode == 5, done.stderr
        expected = f"patches/torch/1.4.0/{name}, row 7.0: expected sha256 {locked.sha256}"
        assert expected in done.stderr


def test_only_vendor_base_debs_may_lack_a_hash(tampered):
    deb = next(deb for deb in read_lock(LOCK_FILE).row("rtx-1.7").debs if deb.stage == "runtime")
    with pytest.raises(
        IntegrityError, match="must be set for a package that is not in the base image"
    ):
        tampered(f'"sha256": "{deb.sha256}"', '"sha256": ""', forged=True)
