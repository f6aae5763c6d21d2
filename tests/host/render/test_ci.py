import json
import re

import pytest
from validators import documents, validate

from trtyard.core.errors import IntegrityError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.render.workflow import (
    CHECKOUT,
    MODELS,
    UPLOAD,
    WORKFLOW,
    Jobs,
    jobs_of,
    render_workflow,
    workflow,
)
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

TEXT = workflow()


def row(name, **changes):
    return {
        "name": name,
        "python": "3.12",
        "runs_on": ["8.0", "8.9"],
        "executors": ["docker", "host"],
        "base": "debian:bookworm-slim",
        **changes,
    }


def jobs(*rows, capability="", no_python=lambda versions: None):
    value = {"schema": 1, "default": rows[0]["name"], "rows": list(rows)}
    return jobs_of(value, capability=capability, no_python=no_python)


def names(listed):
    return [job["row"] for job in listed]


def test_committed_workflow_matches_the_templates():
    render_workflow(check=True)


def test_changed_or_missing_workflow_is_rendered_again(tmp_path):
    with pytest.raises(IntegrityError, match=re.escape(str(WORKFLOW))):
        render_workflow(check=True, root=tmp_path)
    render_workflow(check=False, root=tmp_path)
    render_workflow(check=True, root=tmp_path)
    (tmp_path / WORKFLOW).write_text(TEXT.replace("contents: read", "contents: write"))
    with pytest.raises(IntegrityError, match=r"\./run ci"):
        render_workflow(check=True, root=tmp_path)


def test_actionlint_with_shellcheck_finds_nothing():
    done = validate("actionlint", "-no-color", str(ROOT / WORKFLOW))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("outputs.images)", "outputs.image)", 'property "image" is not defined'),
        ("needs: [plan, base]", "needs: [plan, bse]", '"bse"'),
        ('--model "$MODEL"', "--model $MODEL", "SC2086"),
    ],
)
def test_actionlint_rejects_a_wrong_workflow(tmp_path, old, new, said):
    assert old in TEXT
    file = tmp_path / "images.yml"
    file.write_text(TEXT.replace(old, new))
    done = validate("actionlint", "-no-color", str(file))
    assert done.returncode == 1
    assert said in done.stdout


def test_actions_are_pinned_by_commit_and_version():
    used = re.findall(r"uses: (.*)", TEXT)
    assert set(used) == {str(CHECKOUT), str(UPLOAD)}
    for one in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)


def test_workflow_names_no_row():
    for name in read_matrix(MATRIX_FILE).rows:
        assert f'"{name}"' not in TEXT
        assert f" {name} " not in TEXT


def test_workflow_has_no_injection_and_few_permissions():
    [value] = documents(TEXT)
    assert value["permissions"] == {"contents": "read"}
    for name, job in value["jobs"].items():
        assert job["timeout-minutes"] <= 180
        writes = {key for key, right in job.get("permissions", {}).items() if right == "write"}
        assert writes == {
            "base": {"packages"},
            "image": {"packages"},
            "upgrade": {"contents", "pull-requests"},
        }.get(name, set())
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), step
            if "uses" in step and "checkout" in step["uses"]:
                assert step["with"]["persist-credentials"] is False


def test_the_jobs_come_in_order_and_the_gpu_job_needs_a_runner():
    [value] = documents(TEXT)
    found = value["jobs"]
    assert found["image"]["needs"] == ["plan", "base"]
    assert found["gpu"]["needs"] == ["plan", "image"]
    assert "vars.GPU_RUNNER != ''" in found["gpu"]["if"]
    assert found["gpu"]["runs-on"] == "${{ vars.GPU_RUNNER }}"
    for name, listed in {
        "base": "bases",
        "image": "images",
        "gpu": "gpu",
        "export": "exports",
        "stand-ins": "stand_ins",
    }.items():
        include = found[name]["strategy"]["matrix"]["include"]
        assert include == f"${{{{ fromJSON(needs.plan.outputs.{listed}) }}}}"
        # An empty list is an error to GitHub, so the job is not started then.
        assert f"needs.plan.outputs.{listed} != '[]'" in found[name]["if"]
    crons = [one["cron"] for one in value["on"]["schedule"]]
    assert len(crons) == len(set(crons)) == 2
    # Which of the two it was decides what runs.
    assert f"schedule == '{crons[1]}' && 'upgrade'" in found["plan"]["outputs"]["task"]


def test_a_tag_pushes_and_every_model_is_converted():
    [value] = documents(TEXT)
    steps = {step["name"]: step for step in value["jobs"]["image"]["steps"] if "name" in step}
    assert steps["Push"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    for model in MODELS:
        assert f"--model {model} " in steps[f"Convert {model}"]["run"]
    # In this order: an image that does not convert is not pushed.
    order = list(steps)
    assert order.index("Build") < order.index(f"Convert {MODELS[0]}") < order.index("Push")


def commands():
    script = TEXT.replace("\\\n", " ")
    lines = re.findall(r"""\./run ([^|)>#\n']*)""", script)
    yield from sorted({" ".join(line.split()) for line in lines})


@pytest.mark.parametrize("line", list(commands()))
def test_workflow_commands_are_valid(tasks, line):
    name, *words = line.split()
    done = tasks(name, "--help")
    assert done.returncode == 0, done.stderr
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{word.partition('=')[0]}\b", done.stdout), line


def test_rows_on_one_base_share_its_job():
    found = jobs(row("1.1"), row("1.2"), row("1.3", base="ubuntu:24.04"))
    assert names(found.images) == ["1.1", "1.2", "1.3"]
    assert [(job["base"], job["row"], job["target"]) for job in found.bases] == [
        ("debian:bookworm-slim", "1.1", "1-1"),
        ("ubuntu:24.04", "1.3", "1-3"),
    ]
    caches = [job["cache"] for job in found.images]
    assert caches[0] == caches[1] != caches[2]
    assert {job["cache"] for job in found.bases} == set(caches)
    assert [job["default"] for job in found.images] == [True, False, False]
    assert found.exports == found.left_out == []


def test_vendor_rows_are_also_built_with_stand_ins():
    found = jobs(row("1.1", vendor_packages={}), row("2.0", vendor_packages={"libs": "2.0.1"}))
    assert found.stand_ins == [{"row": "2.0"}]
    assert names(found.images) == ["1.1", "2.0"]


def test_unbuildable_row_is_skipped_with_reason_and_exported():
    unresolved = [{"kind": "base", "name": "nv/cuda:12", "reason": "no registry was reached"}]
    other = row("2.0", image_buildable=False, unresolved=unresolved, host_until="onnx")
    found = jobs(row("1.1"), other)
    assert names(found.images) == names(found.bases) == ["1.1"]
    assert found.left_out == ["image of row 2.0: base nv/cuda:12: no registry was reached"]
    assert found.exports == [{"row": "2.0", "model": model} for model in MODELS]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host_until": None}, "the row only runs in its image"),
        ({"host_until": "onnx"}, "no Python 3.12"),
        ({"executors": ["docker"]}, "the row only runs in its image"),
    ],
)
def test_skipped_exports_have_a_reason(changes, reason):
    other = row("2.0", image_buildable=False, **changes)
    found = jobs(row("1.1"), other, no_python=lambda versions: f"no Python {versions[0]}")
    assert found.exports == []
    assert any(f"export to ONNX of row 2.0: {reason}" in one for one in found.left_out)
    assert [job["host"] for job in found.images] == [False]


def test_pipeline_tests_need_tensorrt_on_the_host():
    found = jobs(row("1.1", host_until="engine"), row("1.2", host_until="onnx"))
    assert [job["host"] for job in found.images] == [True, False]


def test_any_of_the_rows_pythons_is_accepted():
    asked = []
    jobs(row("1.1", host_pythons=["3.10", "3.12"]), no_python=asked.append)
    assert asked == [["3.10", "3.12"]]


def test_gpu_runner_gets_only_rows_it_supports():
    found = jobs(row("1.1"), row("1.2", runs_on=["9.0"]), capability="9.0")
    assert names(found.gpu) == ["1.2"]
    assert any("row 1.1 on the GPU" in one for one in found.left_out)
    assert jobs(row("1.1")).gpu == []


def test_the_task_prints_the_lists_of_the_real_matrix(tasks, tmp_path):
    file = tmp_path / "matrix.json"
    file.write_text(tasks("matrix", "--json").stdout)
    done = tasks("ci", "--jobs", str(file))
    assert done.returncode == 0, done.stderr
    outputs = dict(line.split("=", 1) for line in done.stdout.splitlines())
    # The system whose apt knows the default row's distribution, by digest.
    base = read_lock(LOCK_FILE).row(read_matrix(MATRIX_FILE).default).base
    assert outputs.pop("resolver") == base.reference
    lists = {name: json.loads(text) for name, text in outputs.items()}
    assert set(lists) == set(Jobs.__dataclass_fields__) - {"left_out"}
    value = json.loads(file.read_text())
    for one in value["rows"]:
        known = (
            one["name"] in names(lists["images"]) or f"image of row {one['name']}" in done.stderr
        )
        assert known, one["name"]
    assert value["default"] in names(lists["images"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--target", "gitlab"], 2, "github or kubernetes"),
        (["--jobs", "no.json"], 2, "./run matrix --json"),
        (["--jobs", "m.json", "--capability", "nine"], 2, "like 8.9"),
    ],
)
def test_wrong_arguments_exit_with_2(tasks, tmp_path, words, code, said):
    (tmp_path / "m.json").write_text('{"rows": [{}]}')
    done = tasks("ci", *words, cwd=tmp_path)
    assert done.returncode == code
    assert said in done.stderr


def test_workflow_has_no_lock_data_or_digest():
    # A pull request that the workflow makes may not change the workflow.
    [value] = documents(TEXT)
    assert "sha256" not in TEXT
    upgrade = next(step for step in value["jobs"]["upgrade"]["steps"] if "run" in step)
    assert upgrade["env"] == {"RESOLVER": "${{ needs.plan.outputs.resolver }}"}
    assert "./run ci" not in upgrade["run"]


def test_invalid_matrix_is_refused(tasks, tmp_path):
    (tmp_path / "m.json").write_text('{"rows": [{}]}')
    done = tasks("ci", "--jobs", "m.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "m.json is not the output of ./run matrix --json" in done.stderr
