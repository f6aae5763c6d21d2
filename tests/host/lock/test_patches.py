import json
import shutil
from dataclasses import replace

import pytest
from open_patches import take_hashes_out

from trtyard.core.errors import IntegrityError, UsageError
from trtyard.core.files import sha256_of
from trtyard.core.patches.patch_set import read_series
from trtyard.core.patches.patching import apply, reverse
from trtyard.lock.patches import PATCHES, dropped_for, patch_sets, patches_for
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import MATRIX_FILE

ROWS = read_matrix(MATRIX_FILE).rows
TORCH_1_4 = [
    "torch/1.4.0/arange-of-opset-11.patch",
    "torch/1.4.0/topk-of-opset-9.patch",
]


def torch_paths(patches):
    return [one.path for one in patches if one.project == "torch"]


def test_every_patch_set_reads_and_belongs_to_a_row():
    taken = {folder for row in ROWS.values() for folder in patch_sets(row)}
    present = {file.parent for file in PATCHES.rglob("series")}
    assert taken == present != set()
    for folder in present:
        assert read_series(folder)


def test_a_row_takes_its_patches_in_the_order_of_the_series():
    found = patches_for(ROWS["7.0"])
    assert torch_paths(found) == TORCH_1_4
    assert dropped_for(ROWS["7.0"]) == ()
    for one in found:
        assert one.sha256 == sha256_of(PATCHES / one.path)
        assert one.what
        assert one.why
        assert one.fixes


def test_other_torch_and_stock_parser_get_no_patches():
    assert patches_for(ROWS["rtx-1.7"]) == ()
    assert {one.project for one in patches_for(ROWS["8.6"])} <= {"onnx-tensorrt"}
    assert patches_for(replace(ROWS["8.6"], parser="stock")) == ()


@pytest.mark.parametrize(
    ("tensorrt", "needed"),
    [("8.4.3.1", TORCH_1_4), ("8.5.1.7", TORCH_1_4[1:]), ("8.6.1.6", []), ("10.0.1.6", [])],
)
def test_unneeded_patch_is_not_applied(tensorrt, needed):
    row = replace(ROWS["7.0"], tensorrt=tensorrt)
    assert torch_paths(patches_for(row)) == needed
    assert sorted(torch_paths(dropped_for(row)) + needed) == TORCH_1_4


def test_tensorrt_ranges_do_not_apply_to_rtx():
    row = replace(ROWS["7.0"], tensorrt="1.7.1", flavour="rtx", parser="stock")
    assert torch_paths(dropped_for(row)) == TORCH_1_4


def test_a_parsers_patches_go_to_its_own_release(tmp_path):
    folder = tmp_path / "onnx-tensorrt" / "8.6"
    folder.mkdir(parents=True)
    row = ROWS["8.6"]
    assert patch_sets(row, tmp_path) == (folder,)
    assert patch_sets(replace(row, tensorrt="8.60.1"), tmp_path) == ()
    assert patch_sets(replace(row, parser="stock"), tmp_path) == ()


def test_an_unknown_project_is_refused(tmp_path):
    (tmp_path / "numpy" / "1").mkdir(parents=True)
    with pytest.raises(UsageError, match="numpy"):
        patch_sets(ROWS["8.6"], tmp_path)


def test_the_task_lists_by_row(tasks):
    done = tasks("patches", "--trt", "7")
    assert done.returncode == 0
    assert done.stdout.startswith("7.0\n  torch/1.4.0/arange-of-opset-11.patch\n")
    for words in ("fixes    No importer registered for op: NonZero", "until tensorrt 8.6"):
        assert words in done.stdout
    listed = json.loads(tasks("patches", "--json").stdout)
    assert [row["name"] for row in listed["rows"]] == list(ROWS)
    by_name = {row["name"]: row for row in listed["rows"]}
    assert [one["path"] for one in by_name["7.0"]["patches"]][:2] == TORCH_1_4
    assert by_name["rtx-1.7"]["patches"] == []


def made_up(patches):
    """Return files in which the series' hunks sit: their own lines, and fillers between."""
    files = {}
    for patch in reversed(patches):
        for diff in patch.diffs:
            if diff.old_exists:
                lines = files.setdefault(diff.path, [b"filler %d\n" % n for n in range(300)])
                for hunk in diff.hunks:
                    lines[hunk.new_start : hunk.new_start + len(hunk.new)] = hunk.new
                for hunk in reversed(diff.hunks):  # so that the numbers of those before it hold
                    lines[hunk.new_start : hunk.new_start + len(hunk.new)] = hunk.old
    return {path: b"".join(lines) for path, lines in files.items()}


@pytest.mark.parametrize("release", ["7.0", "8.6"])
def test_parser_series_applies_to_its_lines(release, tmp_path):
    folder = tmp_path.with_name(f"{tmp_path.name}-series")
    shutil.copytree(PATCHES / "onnx-tensorrt" / release, folder)
    take_hashes_out(folder)  # of upstream's file, which is another than the one made up here
    patches = read_series(folder)
    files = made_up(patches)
    assert files
    for path, data in files.items():
        (tmp_path / path).write_bytes(data)
    apply(patches, tmp_path)
    for patch in patches:
        for diff in patch.diffs:
            added = {line for hunk in diff.hunks for line in hunk.new} - {b"\n"}
            assert added <= set((tmp_path / diff.path).read_bytes().splitlines(keepends=True))
    reverse(patches, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_modified_torch_is_refused(tmp_path):
    patches = read_series(PATCHES / "torch" / "1.4.0")
    for path, data in made_up(patches).items():
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(data)
    with pytest.raises(IntegrityError, match="expected sha256 21d51fc3"):
        apply(patches, tmp_path)
