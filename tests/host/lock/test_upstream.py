"""Filling in the hashes that a patch leaves open, from a git repository of invented files."""

import hashlib
import re
import subprocess
from dataclasses import replace

import pytest
from open_patches import take_hashes_out

from trtyard.core.errors import IntegrityError
from trtyard.core.file_changes import change_together
from trtyard.core.patches.patch_set import read_series
from trtyard.core.patches.patching import apply, states
from trtyard.lock.file import Unresolved, read_lock, write_lock
from trtyard.lock.patches import patches_for, patches_now
from trtyard.lock.upstream import filled, resolved_patches
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import MATRIX_FILE

ROW = read_matrix(MATRIX_FILE).row("8.6")
REPOSITORY = "onnx/onnx-tensorrt"
LINES = [b"line %d\n" % number for number in range(1, 31)]
UPSTREAM = b"".join(LINES)

HEADER = """\
Description: {name}
Origin: trtyard
Forwarded: no
Last-Update: 2026-01-31
Applies-To: Importer.cpp sha256:{upstream}
{more}Fixes: nothing
"""
HUNK = """\
--- a/Importer.cpp
+++ b/Importer.cpp
@@ -{line} +{line} @@
-line {line}
+changed {line}
"""
MADE = """\
--- /dev/null
+++ b/made.hpp
@@ -0,0 +1 @@
+made
"""


def sha256(text):
    return hashlib.sha256(text).hexdigest()


def with_lines(*changed):
    """Return upstream's text with these lines as the patches make them."""
    lines = list(LINES)
    for number in changed:
        lines[number - 1] = b"changed %d\n" % number
    return b"".join(lines)


def git(*words, cwd):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    done = subprocess.run(["git", *identity, *words], cwd=cwd, check=True, capture_output=True)
    return done.stdout.decode().strip()


@pytest.fixture
def repository(tmp_path):
    """Return a function that commits a file and returns the repository's row and environment."""
    place = tmp_path / "servers" / f"{REPOSITORY}.git"
    place.mkdir(parents=True)
    git("init", "--quiet", cwd=place)

    def commit(text=UPSTREAM, name="Importer.cpp"):
        (place / name).write_bytes(text)
        git("add", ".", cwd=place)
        git("commit", "--quiet", "-m", "x", "--allow-empty", cwd=place)
        return git("rev-parse", "HEAD", cwd=place)

    return commit


@pytest.fixture
def reachable(tmp_path, monkeypatch):
    """Let git find the repository of the tests in the place of the project's own."""
    for name, text in redirected(tmp_path / "servers").items():
        monkeypatch.setenv(name, text)


def redirected(servers):
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{servers.as_uri()}/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }


@pytest.fixture
def series(tmp_path):
    """Return a function that writes a series of two patches with these hashes of upstream."""
    folder = tmp_path / "patches" / "onnx-tensorrt" / "8.6"

    def write(upstream="unresolved", *, more="", line=20):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "series").write_text("low.patch\nhigh.patch\n")
        head = HEADER.format(name="low", upstream=upstream, more=more)
        (folder / "low.patch").write_text(head + HUNK.format(line=line))
        head = HEADER.format(name="high", upstream=upstream, more=" made.hpp new\n")
        (folder / "high.patch").write_text(head + HUNK.format(line=3) + MADE)
        return folder

    return write


def on(commit):
    return replace(ROW, commits={REPOSITORY: commit})


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_headers_get_the_hashes_before_and_after(repository, reachable, series, tmp_path):
    folder, commit = series(), repository()
    repository(b"something later\n")  # the row's commit is not the newest
    change_together(resolved_patches(on(commit), tmp_path / "patches"))
    low, high = read_series(folder)
    assert low.applies_to == high.applies_to == {"Importer.cpp": sha256(UPSTREAM)}
    assert low.results == {"Importer.cpp": sha256(with_lines(20))}
    assert high.results == {
        "Importer.cpp": sha256(with_lines(3, 20)),
        "made.hpp": sha256(b"made\n"),
    }
    # And the files are as strict as any: upstream's is taken, one of another byte is not.
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "Importer.cpp").write_bytes(UPSTREAM.replace(b"line 9", b"line 8"))
    with pytest.raises(IntegrityError, match=f"expected sha256 {sha256(UPSTREAM)}"):
        states([low, high], tree)
    (tree / "Importer.cpp").write_bytes(UPSTREAM)
    apply([low, high], tree)
    assert (tree / "Importer.cpp").read_bytes() == with_lines(3, 20)


def test_only_the_header_changes_and_only_once(repository, reachable, series, tmp_path):
    folder, commit = series(), repository()
    before = contents(folder)
    change_together(resolved_patches(on(commit), tmp_path / "patches"))
    after = contents(folder)
    for name, text in before.items():
        assert after[name].partition(b"--- ")[1:] == text.partition(b"--- ")[1:]
    assert resolved_patches(on(commit), tmp_path / "patches") == []


def test_old_result_is_replaced():
    patch = HEADER.format(name="x", upstream="unresolved", more="").replace(
        "Fixes", "Result: Importer.cpp sha256:" + "0" * 64 + "\nFixes"
    )
    text = filled((patch + HUNK.format(line=3)).encode(), {"Importer.cpp": "1" * 64}, {"y": "2"})
    assert text.count(b"Result: ") == 1
    assert b"Applies-To: Importer.cpp sha256:" + b"1" * 64 + b"\nResult: y sha256:2\nFixes" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"line": 40}, "low.patch does not apply to Importer.cpp of .*ends before line 40"),
        ({"more": f"Result: Importer.cpp sha256:{'0' * 64}\n"}, f"expected sha256 {'0' * 64}"),
    ],
)
def test_series_for_another_text_is_refused(repository, reachable, series, tmp_path, options, said):
    folder, commit = series(**options), repository()
    before = contents(folder)
    with pytest.raises(IntegrityError, match=said):
        resolved_patches(on(commit), tmp_path / "patches")
    assert contents(folder) == before


def test_known_hash_is_compared_next_to_an_unresolved_one(repository, reachable, series, tmp_path):
    series()
    second = tmp_path / "patches" / "onnx-tensorrt" / "8.6" / "high.patch"
    text = second.read_text().replace("Importer.cpp sha256", "other.cpp sha256", 1)
    text = text.replace("/Importer.cpp", "/other.cpp").replace("unresolved", "0" * 64)
    second.write_text(text)
    repository(name="other.cpp")
    with pytest.raises(IntegrityError) as raised:
        resolved_patches(on(repository()), tmp_path / "patches")
    assert f"expected sha256 {'0' * 64}, found {sha256(UPSTREAM)}" in raised.value.message


@pytest.mark.parametrize(
    ("name", "said"), [("Other.cpp", "found no file"), ("made.hpp", "already exists")]
)
def test_missing_and_existing_files_are_errors(repository, reachable, series, tmp_path, name, said):
    series()
    if name == "made.hpp":
        repository()
    with pytest.raises(IntegrityError, match=said):
        resolved_patches(on(repository(b"x\n", name)), tmp_path / "patches")


@pytest.mark.parametrize("lacking", ["repository", "commit"])
def test_unreachable_patch_stays_unresolved(
    repository, reachable, series, tmp_path, capsys, lacking
):
    series()
    if lacking == "commit":
        repository()
    assert resolved_patches(on("0" * 39 + "1"), tmp_path / "patches") == []
    assert "stay unresolved: " in capsys.readouterr().err


@pytest.fixture
def locked_checkout(checkout, repository):
    """Return a checkout whose row 8.6 is of the tests' commit and locked so."""
    folder = checkout / "patches" / "onnx-tensorrt" / "8.6"
    take_hashes_out(folder)
    patches = read_series(folder)
    lines = [b"filler %d\n" % number for number in range(300)]
    for patch in reversed(patches):
        for diff in patch.diffs:
            for hunk in diff.hunks if diff.old_exists else ():
                lines[hunk.new_start : hunk.new_start + len(hunk.new)] = hunk.new
            for hunk in reversed(diff.hunks) if diff.old_exists else ():
                lines[hunk.new_start : hunk.new_start + len(hunk.new)] = hunk.old
    commit = repository(b"".join(lines), "ModelImporter.cpp")
    toml = checkout / "versions.toml"
    toml.write_text(toml.read_text().replace(ROW.commits[REPOSITORY], commit))
    lock = read_lock(checkout / "versions.lock")
    row = replace(
        lock.row("8.6"),
        matrix_sha256=read_matrix(toml).row("8.6").sha256(),
        patches=patches_now(read_matrix(toml).row("8.6"), checkout / "patches"),
        unresolved=tuple(
            Unresolved(kind="patch", name=f"onnx-tensorrt/8.6/{one.name}", version=path, reason="x")
            for one in patches
            for path in one.applies_to
        ),
    )
    write_lock(checkout / "versions.lock", replace(lock, rows={**lock.rows, "8.6": row}))
    # As by someone who works on a patch: lock looks into a series that is not as it was locked.
    first = patches[0].file
    first.write_text(first.read_text().replace("Last-Update: 2026", "Last-Update: 2027"))
    return checkout, sha256(b"".join(lines))


def test_lock_fills_in_hashes_and_prints_them(tasks, locked_checkout, tmp_path):
    checkout, upstream = locked_checkout
    done = tasks("lock", root=checkout, env=redirected(tmp_path / "servers"))
    assert done.returncode == 0, done.stderr
    line = f"ModelImporter.cpp of upstream: unresolved -> {upstream}"
    assert done.stdout.count(line) == 2
    assert (
        len(re.findall(r"ModelImporter.cpp after the patch: \(none\) -> [0-9a-f]{64}", done.stdout))
        == 2
    )
    assert (
        "unresolved patch onnx-tensorrt/8.6/errors-with-origin.patch: ModelImporter.cpp -> (none)"
        in (done.stdout)
    )
    locked = read_lock(checkout / "versions.lock").row("8.6")
    assert [one.applies_to["ModelImporter.cpp"] for one in locked.patches] == [upstream] * 2
    assert not [one for one in locked.unresolved if one.kind == "patch"]
    assert tasks("lock", "--check", root=checkout).returncode == 0
    patches = patches_for(ROW, checkout / "patches")
    assert [one.results for one in patches] == [dict(one.results) for one in locked.patches]


def test_lock_writes_nothing_if_a_hunk_does_not_apply(tasks, locked_checkout, tmp_path):
    checkout, _ = locked_checkout
    file = checkout / "patches" / "onnx-tensorrt" / "8.6" / "errors-with-origin.patch"
    file.write_text(file.read_text().replace("\n         {\n", "\n         {}\n", 1))
    before = {one: one.read_bytes() for one in [*file.parent.iterdir(), checkout / "versions.lock"]}
    done = tasks("lock", root=checkout, env=redirected(tmp_path / "servers"))
    assert done.returncode == 5, done.stderr
    assert "errors-with-origin.patch does not apply to ModelImporter.cpp" in done.stderr
    assert {one: one.read_bytes() for one in before} == before


def test_changed_patch_is_checked_against_upstream(tasks, locked_checkout, tmp_path):
    checkout, _ = locked_checkout
    assert tasks("lock", root=checkout, env=redirected(tmp_path / "servers")).returncode == 0
    file = checkout / "patches" / "onnx-tensorrt" / "8.6" / "errors-with-origin.patch"
    file.write_text(file.read_text().replace("withOrigin(imported", "withOrigins(imported"))
    done = tasks("lock", root=checkout, env=redirected(tmp_path / "servers"))
    assert done.returncode == 5, done.stderr
    assert "errors-with-origin.patch applied to ModelImporter.cpp of" in done.stderr
    assert "does not give the result in its header" in done.stderr
    done = tasks("lock", root=checkout, env=redirected(tmp_path / "nowhere"))
    assert done.returncode == 0, done.stderr
    assert "the changed patches are not checked" in done.stderr


def test_lock_continues_without_the_git_server(tasks, locked_checkout, tmp_path):
    checkout, _ = locked_checkout
    done = tasks("lock", root=checkout, env=redirected(tmp_path / "nowhere"))
    assert done.returncode == 0, done.stderr
    assert f"{REPOSITORY} cannot be fetched, the patches' hashes stay unresolved" in done.stderr
    locked = read_lock(checkout / "versions.lock").row("8.6")
    assert len([one for one in locked.unresolved if one.kind == "patch"]) == 2


def test_hook_of_another_repository_is_ignored(
    repository, reachable, series, tmp_path, monkeypatch
):
    commit = repository()
    series()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert len(resolved_patches(on(commit), tmp_path / "patches")) == 2
    assert not (tmp_path / "elsewhere").exists()
