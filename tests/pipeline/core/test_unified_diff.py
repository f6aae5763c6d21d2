import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtyard.core.patches.unified_diff import DiffError, MisfitError, changed, lines_of, parse

HEADER = b"--- a/f\n+++ b/f\n"


def content(lines, whole_end):
    text = b"".join(line + b"\n" for line in lines)
    return text if whole_end else text[:-1]


# Few different lines, so that context is found in wrong places too; some with a carriage return.
texts = st.builds(
    content,
    st.lists(st.sampled_from([b"a", b"b", b"", b"c\r", b"-- x"]), max_size=14),
    st.booleans(),
)


def as_diff(folder, old, new, context, program):
    """Return the diff that GNU diff or git makes of the two contents."""
    for name, text in (("a", old), ("b", new)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "f").write_bytes(text)
    words = {
        "diff": ["diff", f"-U{context}", "--label=a/f", "--label=b/f", "a/f", "b/f"],
        "git": [
            "git",
            "diff",
            "--no-index",
            f"-U{context}",
            "--no-color",
            "--no-prefix",
            "a/f",
            "b/f",
        ],
    }[program]
    return subprocess.run(words, cwd=folder, stdout=subprocess.PIPE).stdout


def by_patch(folder, text, diff):
    """Return what GNU patch makes of the file, or None unless every hunk sat just where it says."""
    (folder / "f").write_bytes(text)
    (folder / "d").write_bytes(diff)
    words = ["patch", "--fuzz=0", "--batch", "--forward", "--no-backup-if-mismatch", "-p1"]
    words += ["--reject-file=-", "--input=d", "f"]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    clean = done.returncode == 0 and b"offset" not in done.stdout and b"fuzz" not in done.stdout
    return (folder / "f").read_bytes() if clean and (folder / "f").exists() else None


def by_git(folder, text, diff):
    (folder / "f").write_bytes(text)
    words = ["git", "apply", "--unidiff-zero", "-"]
    done = subprocess.run(words, cwd=folder, input=diff, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    return (folder / "f").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    for program in ("diff", "patch", "git"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine")
    return tmp_path_factory.mktemp("diffs")


@settings(max_examples=120, deadline=None)
@given(texts, texts, st.integers(0, 3), st.sampled_from(["diff", "git"]))
def test_diff_applies_like_git_and_reverses(folder, old, new, context, program):
    data = as_diff(folder, old, new, context, program)
    if old == new:
        assert data == b""
        return
    (diff,) = parse(data)
    # Without context git takes the newline before a last line that has none away with that line.
    reference = by_patch if context == 0 and not old.endswith(b"\n") else by_git
    assert changed(diff, old) == new == reference(folder, old, data)
    assert changed(diff, new, reverse=True) == old


@settings(max_examples=200, deadline=None)
@given(texts, texts, texts, st.integers(0, 3))
def test_applies_like_gnu_patch_without_offset(folder, old, new, other, context):
    data = as_diff(folder, old, new, context, "diff")
    # patch takes an empty file for one to be made, and puts in a newline where one is missing.
    if not data or not all(text.endswith(b"\n") for text in (old, new, other)):
        return
    (diff,) = parse(data)
    reference = by_patch(folder, other, data)
    try:
        own = changed(diff, other)
    except MisfitError:
        own = None
    # Lines to add behind the end, patch adds at the end without a word.
    if any(hunk.old_start > len(lines_of(other)) for hunk in diff.hunks):
        assert own is None
    elif reference is not None:
        assert own == reference
    if own is not None:
        assert changed(diff, own, reverse=True) == other


@settings(deadline=None)
@given(texts, texts, st.data())
def test_every_byte_of_a_hunk_is_compared(old, new, data):
    position = data.draw(st.integers(0, len(old) - 1)) if old else None
    if position is None or old == new:
        return
    lines = lines_of(old)
    hunk = b"".join(b"-" + one for one in lines) + b"".join(b"+" + one for one in lines_of(new))
    if not (old.endswith(b"\n") and new.endswith(b"\n")):
        return
    counts = f"@@ -1,{len(lines)} +1,{len(lines_of(new))} @@\n".encode()
    (diff,) = parse(HEADER + counts + hunk)
    wrong = old[:position] + b"?" + old[position + 1 :]
    assert changed(diff, old) == new
    with pytest.raises(MisfitError, match="line"):
        changed(diff, wrong)


def test_hunk_one_line_off_is_refused():
    (diff,) = parse(HEADER + b"@@ -2,2 +2,1 @@\n a\n-b\n")
    assert changed(diff, b"x\na\nb\n") == b"x\na\n"
    with pytest.raises(MisfitError, match="'x' in line 2, not 'a'"):
        changed(diff, b"x\nx\na\nb\n")


def test_new_file_is_added_and_removed():
    (diff,) = parse(b"--- /dev/null\n+++ b/d/f\n@@ -0,0 +1,2 @@\n+a\n+b\n")
    assert (diff.path, diff.old_exists) == ("d/f", False)
    assert changed(diff, None) == b"a\nb\n"
    assert changed(diff, b"a\nb\n", reverse=True) is None
    with pytest.raises(MisfitError, match="already exists"):
        changed(diff, b"")
    with pytest.raises(MisfitError, match="did not add"):
        changed(diff, b"a\nb\nc\n", reverse=True)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no file"),
        (b"--- a/f\n", "expected '\\+\\+\\+ '"),
        (HEADER, "has no hunk"),
        (b"--- a/f\n+++ b/g\n@@ -1 +1 @@\n-a\n+b\n", "renames f to g"),
        (b"--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n", "deletes"),
        (b"--- a/../f\n+++ b/../f\n@@ -1 +1 @@\n-a\n+b\n", "without . and .."),
        (b"--- /etc/f\n+++ /etc/f\n@@ -1 +1 @@\n-a\n+b\n", "a/… or b/…"),
        (HEADER + b"@@ -1,2 +1,2 @@\n-a\n+b\n", "ends too early"),
        (HEADER + b"@@ -1 +1 @@\n-a\n+b\n+c\n", "expected '--- '"),
        (HEADER + b"@@ -1,2 +1,1 @@\n+b\n+b\n-a\n-a\n", "more lines"),
        (HEADER + b"@@ -1 +1 @@\n-a\n\n+b\n", "not a line of a hunk"),
        (HEADER + b"@@ -1 +2 @@\n-a\n+b\n", "contradict"),
        (HEADER + b"@@ -1,2 +1,2 @@\n a\n-b\n+c\n@@ -2 +2 @@\n-c\n+d\n", "overlaps the previous"),
        (HEADER + b"@@ -1 +1 @@\n\\ No newline at end of file\n-a\n+b\n", "does not follow a line"),
        (HEADER + b"@@ -1 +1 @@\n-a\n+b\n" + HEADER + b"@@ -1 +1 @@\n-a\n+b\n", "twice"),
        (b"diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", "expected"),
        (b"diff --git a/f b/f\nGIT binary patch\n", "expected"),
        (b"--- /dev/null\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n", "has old lines"),
    ],
)
def test_malformed_diff_is_refused_with_its_line(data, problem):
    with pytest.raises(DiffError, match=problem):
        parse(data)


def test_missing_final_newline_is_kept():
    (diff,) = parse(HEADER + b"@@ -1 +1 @@\n-a\n+b\n\\ No newline at end of file\n")
    assert changed(diff, b"a\n") == b"b"
    with pytest.raises(MisfitError, match="without a newline"):
        changed(diff, b"a\nz\n")
