"""Another image under a name of trtyard's is used by no command."""

import json
import shutil
import subprocess
from contextlib import contextmanager

import pytest
from conftest import run_task

from trtyard.build import local_base as base_module
from trtyard.build.identity import Expected, noted_id, problem_of
from trtyard.build.local_base import RECIPE_LABEL, base_problem, have_bases, local_bases, make_bases
from trtyard.build.plan import forecasts
from trtyard.lock.file import read_lock
from trtyard.system.docker_engine import docker_command, image_id
from trtyard.system.uv import LOCK_FILE, ROOT


@pytest.fixture
def build(engine, tmp_path):
    """Return a function that builds an image of a Dockerfile's lines; all are removed."""
    names = []

    def build(name, *lines):
        folder = tmp_path / str(len(names))
        folder.mkdir()
        (folder / "evil").write_text("#!/bin/sh\n")
        (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
        command = [docker_command(), "buildx", "build", "--builder", "default", "--load"]
        command += ["--provenance=false", "--tag", name, folder]
        subprocess.run(command, check=True, capture_output=True)
        names.append(name)
        return name

    yield build
    for name in names:
        if name.startswith("trtyard/test-"):
            engine.images.remove(name, force=True)


@contextmanager
def in_place_of(engine, name):
    """Give the name back to its image after the block."""
    image = engine.images.get(name)
    engine.images.get(image.id).tag("trtyard/test-kept", "here")
    try:
        yield
    finally:
        engine.images.get("trtyard/test-kept:here").tag(name)
        engine.images.remove("trtyard/test-kept:here")
        assert image_id(engine, name) == image.id


def other_image(build, image, kind, other):
    """Give the image's name to another: one on top of it, or a stranger."""
    if kind == "on top":
        return build(image, f"FROM {image}", "COPY --chmod=4755 evil /usr/bin/evil")
    if kind == "other settings":
        return build(image, f"FROM {image}", 'ENTRYPOINT ["/bin/true"]')
    return build(image, f"FROM {other}")


@pytest.mark.parametrize("kind", ["on top", "other settings", "a stranger"])
@pytest.mark.parametrize("noted", [True, False])
def test_other_image_under_the_rows_name_is_not_used(engine, tree, image, row, build, kind, noted):
    bases = local_bases(row, read_lock(LOCK_FILE).row(row.name))
    notes, kept = tree / ".trtyard" / "images", tree / "kept"
    if not noted:
        shutil.move(notes, kept)
    try:
        with in_place_of(engine, image):
            other_image(build, image, kind, bases[0].image)
            said = {
                words: run_task(*words.split(), root=tree)
                for words in (
                    "build --dry-run",
                    "plan --json",
                    "doctor",
                    "inspect",
                    "push --registry localhost:9 --dry-run",
                    "convert --model alexnet --in docker --dry-run",
                    f"reproduce --against {image} --dry-run",
                    "matrix --json",
                )
            }
    finally:
        if not noted:
            shutil.move(kept, notes)
    problem = f"{image} is image" if noted else f"{image} is a different image"
    assert f"would build {image}" in said["build --dry-run"].stderr
    assert problem in said["build --dry-run"].stderr
    assert json.loads(said["plan --json"].stdout)["images"][0]["image"] is None
    assert problem in said["doctor"].stdout
    for words in ("inspect", "push --registry localhost:9 --dry-run"):
        assert said[words].returncode == 5
        assert problem in said[words].stderr
    assert "built first" in said["convert --model alexnet --in docker --dry-run"].stderr
    if noted or kind == "a stranger":  # what has all labels is compared byte by byte
        assert said[f"reproduce --against {image} --dry-run"].returncode == 5
    here = {
        one["name"]: one["image_here"] for one in json.loads(said["matrix --json"].stdout)["rows"]
    }
    assert here[row.name] is None


def test_build_gives_the_name_back_to_the_rows_image(engine, tree, image, row, build):
    was = image_id(engine, image)
    other_image(build, image, "on top", "")
    done = run_task("build", root=tree)
    assert done.returncode == 0, done.stderr
    assert image_id(engine, image) == was


@pytest.mark.parametrize("noted", [True, False])
def test_other_base_under_the_name_is_not_built_on(engine, tree, image, row, build, noted):
    base = local_bases(row, read_lock(LOCK_FILE).row(row.name))[0]
    notes, kept = tree / ".trtyard" / "images", tree / "kept"
    if not noted:
        shutil.move(notes, kept)
    try:
        with in_place_of(engine, base.image):
            other_image(build, base.image, "on top", "")
            built = run_task("build", "--base", "local", "--dry-run", root=tree)
            made = run_task("base", "--dry-run", root=tree)
            planned = run_task("plan", "--json", root=tree)
            doctor = run_task("doctor", root=tree)
    finally:
        if not noted:
            shutil.move(kept, notes)
    for done in (built, made):
        assert f"{base.image} is " in done.stderr
        assert f"would make {base.image}" in done.stderr
    (plan,) = json.loads(planned.stdout)["images"]
    assert (plan["image"], plan["base"].startswith("made here")) == (None, False)
    assert f"{base.image} is " in doctor.stdout


def test_image_is_known_by_labels_layers_and_last_step(engine, build):
    name = build(
        "trtyard/test-identity:x", "FROM scratch", "COPY evil /a", "LABEL a=b", 'CMD ["/x"]'
    )
    layers = engine.images.get(name).attrs["RootFS"]["Layers"]
    right = Expected(labels={"a": "b"}, below=layers, layers=1, last_step='CMD ["/x"]')
    assert problem_of(engine, name, right) is None
    assert noted_id(engine, name) is None
    for wrong, words in (
        (Expected(labels={"a": "c"}), "its label a is b, not c"),
        (Expected(labels={"c": "d"}), "its label c is none, not d"),
        (Expected(labels={}, below=["sha256:0"]), "not built on its base"),
        (Expected(labels={}, layers=2), "it has 1 layers, not 2"),
        (Expected(labels={}, last_step="COPY"), "its last step is"),
    ):
        assert words in problem_of(engine, name, wrong)


def test_row_built_on_another_base_has_another_recipe(engine, row):
    bases = make_bases(row, read_lock(LOCK_FILE).row(row.name))
    for base in bases:
        assert base_problem(engine, base) is None
        tag = base.image.rpartition(":")[2]
        assert engine.images.get(base.image).labels[RECIPE_LABEL] == tag


@pytest.fixture
def without_bases(engine, row, monkeypatch):
    """Have no base here, and no registry that gives one."""
    monkeypatch.setattr(base_module, "RECIPE", "of a test")
    mirrors = ROOT / ".trtyard" / "test-mirrors.toml"
    mirrors.write_text('schema = 1\n[registries]\n"docker.io" = "127.0.0.1:9/none"\n')
    monkeypatch.setenv("TRTYARD_MIRRORS", str(mirrors))
    assert not have_bases(engine, row, read_lock(LOCK_FILE).row(row.name))
    yield
    mirrors.unlink()


def test_plan_reports_a_base_that_cannot_be_built(engine, row, without_bases, monkeypatch):
    monkeypatch.setattr(base_module, "MAKER", "no-such-program")
    (one,) = forecasts([row.name], stages=["final"])
    assert "no-such-program is not installed" in one.problems[0]
    monkeypatch.undo()


def test_plan_accepts_a_base_that_can_be_built(engine, row, without_bases):
    (one,) = forecasts([row.name], stages=["final"])
    assert one.problems == ()


def test_plan_names_a_wrong_file_of_the_store(engine, tree, image, row, tmp_path):
    wheel = read_lock(LOCK_FILE).row(row.name).wheels_for(row.python)[0]
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / wheel.filename).write_bytes(b"other")
    words = ["--store", str(tmp_path)]
    planned = run_task("plan", *words, root=tree)
    built = run_task("build", *words, "--dry-run", root=tree)
    assert built.returncode == 5
    assert "cannot be built here: files do not match versions.lock" in planned.stdout
    for said in (planned.stdout, built.stderr):
        assert f"{wheel.filename}: expected sha256 {wheel.sha256}, found" in said
