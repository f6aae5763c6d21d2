import json

import pytest

from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

NO_ENGINE = {"DOCKER_HOST": "unix:///nonexistent.sock"}
ROWS = read_matrix(MATRIX_FILE).rows
LOCK = read_lock(LOCK_FILE)


def planned(tasks, *words, env=NO_ENGINE):
    done = tasks("plan", *words, "--json", env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["images"]


def test_every_row_is_planned_without_docker(tasks):
    found = planned(tasks, "--trt", "all", "--target", "final,runtime")
    assert [(one["row"], one["target"]) for one in found] == [
        (name, target) for name in ROWS for target in ("final", "runtime")
    ]
    for one in found:
        assert "nonexistent.sock" in one["engine"]
        assert one["image"] is None


def test_forecast_downloads_match_the_lock(tasks):
    final, runtime = planned(tasks, "--target", "final,runtime")
    locked = LOCK.row("rtx-1.7")
    wheels = locked.wheels_for("3.11")
    assert final["packages"] == len(wheels) + 1
    assert final["package_bytes"] == sum(one.size for one in (*wheels, *locked.sdists_for("3.11")))
    assert runtime["packages"] < final["packages"]
    assert runtime["package_bytes"] < final["package_bytes"]
    assert final["deb_bytes"] == sum(deb.size for deb in locked.debs_of("runtime", "build"))


@pytest.mark.parametrize("name", ROWS)
def test_plan_lists_unresolved_entries(tasks, name):
    (one,) = planned(tasks, "--trt", name)
    named = {f"{part.kind} {part.name} {part.version}" for part in LOCK.row(name).unresolved}
    assert set(one["unresolved"]) == named
    done = tasks("plan", "--trt", name, env=NO_ENGINE)
    words = "cannot be built: unresolved in versions.lock: " if named else "cannot be built here"
    assert words in done.stdout
    assert one["terms"] == ROWS[name].terms
    assert f"  terms      {ROWS[name].terms}\n" in done.stdout or not ROWS[name].terms


def test_a_store_is_looked_into(tasks, tmp_path):
    (tmp_path / "packages").mkdir()
    assert planned(tasks, "--store", str(tmp_path))[0]["in_store"] == 0


def test_unknown_row_or_target_is_a_usage_error(tasks):
    assert tasks("plan", "--trt", "rtx,nine", env=NO_ENGINE).returncode == 2
    assert tasks("plan", "--target", "small", env=NO_ENGINE).returncode == 2
