import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtyard.core import file_changes
from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.patches import patching
from trtyard.core.patches.patch_set import read_series
from trtyard.core.patches.patching import apply, result_sha256, reverse, states

ROOT = Path(__file__).resolve().parents[3]
UPSTREAM = {"pkg/a.py": b"one\ntwo\nthree\nfour\n", "pkg/b.py": b"x = 1\ny = 2\n"}


def sha(data):
    return hashlib.sha256(data).hexdigest()


def patch_text(applies_to, diff, **fields):
    fields = {
        "Description": "for a test",
        "Origin": "trtyard",
        "Forwarded": "no",
        "Last-Update": "2026-01-31",
        "Applies-To": "\n ".join(applies_to),
        "Fixes": "an error",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items()) + diff


def of(*paths, unresolved=False):
    return [f"{p} sha256:{'unresolved' if unresolved else sha(UPSTREAM[p])}" for p in paths]


LAST = "--- a/pkg/a.py\n+++ b/pkg/a.py\n@@ -4 +4,2 @@\n four\n+five\n"
SECOND = "--- a/pkg/a.py\n+++ b/pkg/a.py\n@@ -2,2 +2 @@\n-two\n three\n"
BOTH = (
    "--- a/pkg/b.py\n+++ b/pkg/b.py\n@@ -1,2 +1,2 @@\n x = 1\n-y = 2\n+y = 3\n"
    "--- /dev/null\n+++ b/pkg/new/c.py\n@@ -0,0 +1 @@\n+z = 0\n"
)
PATCHED = {"pkg/a.py": b"one\nthree\nfour\nfive\n", "pkg/b.py": b"x = 1\ny = 3\n"}
MADE = {"pkg/new/c.py": b"z = 0\n"}


@pytest.fixture
def series(tmp_path):
    """Return a function that writes a series and returns its folder."""

    def write(**patches):
        folder = tmp_path / "series of patches"
        folder.mkdir(exist_ok=True)
        for name, text in patches.items():
            (folder / f"{name}.patch").write_text(text)
        (folder / "series").write_text("# a comment\n" + "".join(f"{n}.patch\n" for n in patches))
        return folder

    return write


@pytest.fixture
def root(tmp_path):
    for path, data in UPSTREAM.items():
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).write_bytes(data)
    return tmp_path / "root"


@pytest.fixture
def three(series):
    return series(
        last=patch_text(of("pkg/a.py"), LAST),
        second=patch_text(
            of("pkg/a.py"), SECOND, Result="pkg/a.py sha256:" + sha(PATCHED["pkg/a.py"])
        ),
        both=patch_text([*of("pkg/b.py"), "pkg/new/c.py new"], BOTH),
    )


def content(root):
    return {
        file.relative_to(root).as_posix(): file.read_bytes()
        for file in root.rglob("*")
        if file.is_file()
    }


def test_a_series_is_applied_whole_and_taken_back(three, root):
    patches = read_series(three)
    before = apply(patches, root)
    assert content(root) == {**PATCHED, **MADE}
    assert [one.is_patched for one in before] == [False, False, False]
    again = apply(patches, root)
    assert [one.is_patched for one in again] == [True, True, True]
    assert content(root) == {**PATCHED, **MADE}
    assert result_sha256(again) == result_sha256(before)
    reverse(patches, root)
    assert content(root) == UPSTREAM
    reverse(patches, root)
    assert content(root) == UPSTREAM


def test_result_hash_matches_sha256sum(three, root):
    before = apply(read_series(three), root)
    paths = sorted([*PATCHED, *MADE])
    done = subprocess.run(["sha256sum", *paths], cwd=root, stdout=subprocess.PIPE, check=True)
    assert result_sha256(before) == sha(done.stdout)


@pytest.mark.parametrize("path", sorted(UPSTREAM))
@pytest.mark.parametrize("state", ["upstream", "patched"])
def test_one_byte_changed_is_refused_with_file_and_both_hashes(three, root, path, state):
    patches = read_series(three)
    if state == "patched":
        apply(patches, root)
    data = bytearray((root / path).read_bytes())
    data[2] ^= 1
    (root / path).write_bytes(data)
    before = content(root)
    for work in (apply, reverse, states):
        with pytest.raises(IntegrityError) as error:
            work(patches, root)
        for word in (str(root / path), sha(UPSTREAM[path]), sha(bytes(data))):
            assert word in str(error.value)
    assert content(root) == before


def test_failing_patch_changes_nothing(series, root):
    folder = series(
        first=patch_text([*of("pkg/b.py"), "pkg/new/c.py new"], BOTH),
        middle=patch_text(of("pkg/a.py"), SECOND.replace("-two", "-2")),
        last=patch_text(of("pkg/a.py"), LAST),
    )
    with pytest.raises(IntegrityError, match=r"middle\.patch does not apply.*'two' in line 2"):
        apply(read_series(folder), root)
    assert content(root) == UPSTREAM


def test_a_hunk_that_would_sit_elsewhere_is_refused(series, root):
    folder = series(one=patch_text(of("pkg/a.py"), LAST.replace("-4 +4", "-3 +3")))
    with pytest.raises(IntegrityError, match="'three' in line 3, not 'four'"):
        apply(read_series(folder), root)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_failed_write_restores_earlier_files(three, root, failing, monkeypatch):
    put, calls = file_changes._put, []

    def fails(staged, file):
        calls.append(file)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device", str(file))
        put(staged, file)

    monkeypatch.setattr(file_changes, "_put", fails)
    with pytest.raises(OSError, match="No space"):
        apply(read_series(three), root)
    assert content(root) == UPSTREAM
    monkeypatch.undo()
    apply(read_series(three), root)
    assert content(root) == {**PATCHED, **MADE}


def test_killed_patching_is_completed_or_reversed(three, root):
    script = (
        "import os, sys; from pathlib import Path; from trtyard.core import file_changes\n"
        "from trtyard.core.patches.patching import apply\n"
        "from trtyard.core.patches.patch_set import *\n"
        "put = file_changes._put\n"
        "def dies(staged, file):\n"
        "    put(staged, file)\n"
        "    os._exit(9)\n"
        "file_changes._put = dies\n"
        "apply(read_series(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    for work, expected in ((apply, {**PATCHED, **MADE}), (reverse, UPSTREAM)):
        reverse(read_series(three), root)
        command = [sys.executable, "-c", script, three, root]
        killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert killed.returncode == 9
        assert len({one.is_patched for one in states(read_series(three), root)}) == 2
        work(read_series(three), root)
        kept = {path: data for path, data in content(root).items() if ".partial-" not in path}
        assert kept == expected


def test_hard_link_elsewhere_is_unchanged_and_mode_kept(three, root, tmp_path):
    (root / "pkg" / "a.py").chmod(0o755)
    os.link(root / "pkg" / "a.py", tmp_path / "cache")
    apply(read_series(three), root)
    assert (tmp_path / "cache").read_bytes() == UPSTREAM["pkg/a.py"]
    assert (root / "pkg" / "a.py").stat().st_mode & 0o777 == 0o755


def test_compiled_forms_of_a_patched_file_go(three, root):
    cache = root / "pkg" / "__pycache__"
    cache.mkdir()
    for name in ("a.cpython-36.pyc", "ab.cpython-36.pyc"):
        (cache / name).write_bytes(b"")
    apply(read_series(three), root)
    assert [file.name for file in cache.iterdir()] == ["ab.cpython-36.pyc"]


def test_a_path_that_leads_outside_is_refused(three, root, tmp_path):
    (root / "pkg").rename(tmp_path / "elsewhere")
    (root / "pkg").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match="is not a regular file in"):
        apply(read_series(three), root)


def test_without_a_hash_the_hunks_decide(series, root):
    folder = series(second=patch_text(of("pkg/a.py", unresolved=True), SECOND))
    patches = read_series(folder)
    for expected in (False, True):
        assert [one.is_patched for one in apply(patches, root)] == [expected]
    assert content(root)["pkg/a.py"] == b"one\nthree\nfour\n"
    reverse(patches, root)
    assert content(root) == UPSTREAM
    (root / "pkg" / "a.py").write_bytes(b"zero\n" + UPSTREAM["pkg/a.py"])
    with pytest.raises(IntegrityError, match=r"'one' in line 2, not 'two'.*unresolved"):
        apply(patches, root)


def test_ambiguous_patch_without_hash_is_refused(series, root):
    folder = series(one=patch_text(of("pkg/a.py", unresolved=True), LAST))
    (root / "pkg" / "a.py").write_bytes(b"a\nb\nc\nfour\nfive\n")
    with pytest.raises(IntegrityError, match="forwards and backwards"):
        apply(read_series(folder), root)


def test_result_must_match_the_header(series, root):
    folder = series(one=patch_text(of("pkg/a.py"), LAST, Result="pkg/a.py sha256:" + "0" * 64))
    with pytest.raises(IntegrityError, match=r"the patched pkg/a\.py does not match .*000, found"):
        apply(read_series(folder), root)
    assert content(root) == UPSTREAM


@pytest.mark.parametrize(
    ("releases", "taken"),
    [
        (None, ["early", "late", "torch"]),
        ({"tensorrt": "8.5.3.1", "torch": "1.4.0"}, ["early", "torch"]),
        ({"tensorrt": "8.6.1.6", "torch": "1.4.0+cpu"}, ["late", "torch"]),
        ({"tensorrt": "10.0.0", "torch": "1.5.0"}, ["late"]),
        ({"torch": "1.4.0"}, ["torch"]),
    ],
)
def test_releases_decide_which_patches_are_needed(series, root, releases, taken):
    folder = series(
        late=patch_text(of("pkg/a.py"), LAST, Needed_From="tensorrt 8.6"),
        early=patch_text(of("pkg/a.py"), SECOND, Needed_Until="tensorrt 8.6"),
        torch=patch_text([*of("pkg/b.py"), "pkg/new/c.py new"], BOTH, Needed_Until="torch 1.5"),
    )
    patches = read_series(folder)
    found = patching.selected(patches, releases)
    assert sorted(one.file.stem for one in found) == taken
    apply(patches, root, releases)
    text = content(root)["pkg/a.py"]
    assert (b"two" not in text, b"five" in text) == ("early" in taken, "late" in taken)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LAST, "the header has no Description"),
        (patch_text([], LAST), "the header has no Applies-To"),
        (patch_text(of("pkg/b.py"), LAST), "exactly the files that the diff changes"),
        (patch_text(["pkg/a.py new"], LAST), "exactly the files that the diff changes"),
        (patch_text(["pkg/a.py sha256:12"], LAST), "must be PATH sha256:HEX"),
        (patch_text(of("pkg/a.py"), LAST, Fixed="x"), "Fixed is unknown"),
        (patch_text(of("pkg/a.py"), LAST, Last_Update="today"), "must be a date"),
        (patch_text(of("pkg/a.py"), LAST, Needed_Until="cuda 10"), "must be one of tensorrt"),
        (patch_text(of("pkg/a.py"), LAST, Result="pkg/b.py sha256:" + "0" * 64), "does not change"),
        (patch_text(of("pkg/a.py"), "nothing"), "it has no diff"),
        ("well\n" + patch_text(of("pkg/a.py"), LAST), "neither a field"),
    ],
)
def test_a_wrong_header_is_refused_with_its_file(series, text, problem):
    with pytest.raises(UsageError, match=rf"one\.patch: .*{problem}"):
        read_series(series(one=text))


def test_a_series_names_just_its_patches(three):
    (three / "stray.patch").write_text("")
    with pytest.raises(UsageError, match=r"stray\.patch"):
        read_series(three)


def test_two_upstream_files_in_one_series_are_refused(series):
    other = ["pkg/a.py sha256:" + "1" * 64]
    with pytest.raises(
        IntegrityError, match=r"different hashes of upstream's pkg/a\.py.*expected.*found 1111"
    ):
        read_series(series(one=patch_text(of("pkg/a.py"), LAST), two=patch_text(other, SECOND)))


def run_script(*words):
    command = [sys.executable, "-I", ROOT / "trtyard" / "core" / "patches" / "patching.py", *words]
    return subprocess.run(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/"
    )


def test_script_applies_and_prints_the_result(three, root):
    words = ["--series", three, "--into", root]
    first, second = run_script("apply", *words), run_script("apply", *words)
    assert first.returncode == second.returncode == 0, first.stdout
    assert b"pkg/a.py: now patched, sha256 " + sha(PATCHED["pkg/a.py"]).encode() in first.stdout
    assert b"pkg/a.py: already patched" in second.stdout
    result = result_sha256(states(read_series(three), root)).encode()
    assert b"result: sha256 " + result in first.stdout
    assert result in second.stdout
    assert b"now unpatched" in run_script("reverse", *words).stdout
    assert content(root) == UPSTREAM


def test_script_exits_with_the_integrity_code(three, root):
    (root / "pkg" / "a.py").write_bytes(b"other\n")
    done = run_script("apply", "--series", three, "--into", root)
    assert done.returncode == 5
    assert sha(b"other\n").encode() in done.stdout
    assert content(root)["pkg/b.py"] == UPSTREAM["pkg/b.py"]
