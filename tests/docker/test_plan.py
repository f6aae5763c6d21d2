"""What ``plan`` says where there is an engine."""

import json
import re

from conftest import run_task

from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE


def planned(tree, *words):
    done = run_task("plan", *words, "--json", root=tree)
    assert done.returncode == 0, done.stderr
    return {one["row"]: one for one in json.loads(done.stdout)["images"]}


def test_plan_covers_every_row_and_skips_built_images(engine, tree, image, row):
    found = planned(tree, "--trt", "all")
    assert list(found) == list(read_matrix(MATRIX_FILE).rows)
    assert found[row.name]["image"] == image
    for name, locked in read_lock(LOCK_FILE).rows.items():
        assert found[name]["engine"] == ""
        assert bool(found[name]["unresolved"]) == bool(locked.unresolved)
    done = run_task("plan", root=tree)
    assert f"nothing to do: {image} exists" in done.stdout


def test_matrix_lists_contents_of_built_images(tree, image, row):
    done = run_task("matrix", root=tree)
    assert f"  image      {image}\n" in done.stdout
    packages = len(read_lock(LOCK_FILE).row(row.name).wheels_for(row.python))
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("  contents"))
    assert re.search(r" \d+ debs, (\d+) packages, \d+ libraries, 1 plugin libraries", line)
    assert 0 < int(re.search(r"(\d+) packages", line)[1]) <= packages + 1
    rows = json.loads(run_task("matrix", "--json", root=tree).stdout)["rows"]
    here = {one["name"]: one["image_here"] for one in rows}
    assert here.pop(row.name) == image
    for name, other in here.items():  # of the machine's own, if it has any
        assert other is None or other.startswith(f"trtyard/{name}:")


def test_existing_image_is_not_built_again(engine, tree, image):
    done = run_task("build", root=tree)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == image
    assert f"{image} is up to date" in done.stderr
    assert "#1 " not in done.stderr
