import contextlib
import itertools
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from trtyard.build.bake import Options, Plan, bake_command, cache_places
from trtyard.build.build import _check_builder, build, build_all, check_disk, wheel_bytes
from trtyard.build.buildkit import explained
from trtyard.build.local_base import local_bases
from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.render.dockerfiles import context_files, context_key
from trtyard.system.processes import CommandError
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)
PUBLISHED = Plan(
    row=ROW, locked=LOCKED, base="published", local=(), image=f"trtyard/{ROW.name}:0123"
)
LOCAL = replace(PUBLISHED, base="local", local=local_bases(ROW, LOCKED))


@pytest.fixture
def context(tmp_path):
    """Return a folder that holds just what goes into the image."""
    for path in context_files(ROW):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    return tmp_path


@pytest.mark.parametrize(
    ("driver", "plan", "refused"),
    [
        ("docker", LOCAL, False),
        ("docker-container", LOCAL, True),
        ("kubernetes", LOCAL, True),
        ("docker-container", PUBLISHED, False),
    ],
)
def test_separate_builder_cannot_use_a_local_base(tmp_path, driver, plan, refused):
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\nprintf 'Name:   there\\nDriver: {driver}\\n'\n")
    docker.chmod(0o755)
    if not refused:
        _check_builder(docker, "there", plan)
        return
    with pytest.raises(EnvironmentLacksError, match=rf"builder there \({driver}\)") as caught:
        _check_builder(docker, "there", plan)
    assert "--base published" in caught.value.hint


def test_key_changes_with_every_kind_of_input(context):
    keys = {context_key(ROW, [], context)}
    for path in (
        f"images/{ROW.name}/requirements.txt",
        "templates/steps/settle",
        "trtyard/core/files.py",
        "plugins/include/trtyard_kernels.h",
    ):
        file = context / path
        file.write_text(file.read_text() + "\n")
        keys.add(context_key(ROW, [], context))
    (context / "plugins" / "new.cu").touch()
    keys.add(context_key(ROW, [], context))
    (context / "templates/steps/settle").chmod(0o644)
    keys.add(context_key(ROW, [], context))
    keys.add(context_key(ROW, ["base sha256:00"], context))
    assert len(keys) == 8


def test_key_ignores_files_outside_the_image(context):
    before = context_key(ROW, [], context)
    (context / "trtyard/pipeline/__pycache__").mkdir()
    (context / "trtyard/pipeline/__pycache__/files.cpython-311.pyc").touch()
    (context / "plugins/README.md").write_text("other")
    (context / "plugins/.hidden").touch()
    (context / "trtyard/host_side.py").touch()
    assert context_key(ROW, [], context) == before
    assert context_key(ROW, [], ROOT) == before


@pytest.mark.parametrize("path", ["trtyard/known_failures/parsing.py", "trtyard/report/style.css"])
def test_host_wording_and_css_do_not_change_the_key(context, path):
    before = context_key(ROW, [], context)
    assert not (context / path).exists()
    (context / path).parent.mkdir()
    (context / path).write_text((ROOT / path).read_text() + "\n")
    assert context_key(ROW, [], context) == before


def test_local_bases_replace_dockerfile_stages():
    command = LOCAL.command(Path("docker"), "default")
    settings = [word for word in command if str(word).startswith(("rtx", "contexts"))]
    for one in local_bases(ROW, LOCKED):
        assert any(f".contexts.{one.stage}=docker-image://{one.image}" in str(s) for s in settings)
    assert not any("contexts" in str(word) for word in PUBLISHED.command(Path("docker"), "default"))


def test_package_folder_replaces_its_stage(tmp_path):
    command = replace(LOCAL, debs=tmp_path).command(Path("docker"), "default")
    assert f"rtx-1-7.contexts.debs={tmp_path}" in command
    assert "\nFROM scratch AS debs\n" in (ROOT / "images" / ROW.name / "Dockerfile").read_text()


def test_certificates_are_passed_if_the_file_exists(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    assert "secrets=" not in str(PUBLISHED.command(Path("docker"), "default"))
    (tmp_path / "ca.crt").touch()
    assert f"secrets=id=ca,src={tmp_path}/ca.crt" in str(PUBLISHED.command(Path("docker"), "x"))


def test_another_builder_gives_its_image_to_the_engine():
    command = PUBLISHED.command(Path("docker"), "remote", no_cache=True)
    assert "--load" in command
    assert "--no-cache" in command
    assert "--load" not in PUBLISHED.command(Path("docker"), "default")


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ("write /var/lib/x: no space left on device", EnvironmentLacksError, "disk is full"),
        ("error: Hash mismatch for `torch==2`", IntegrityError, "versions.lock"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES", IntegrityError, "versions.lock"),
        (
            'process "x" did not complete successfully: exit code: 5',
            IntegrityError,
            "versions.lock",
        ),
        ("lookup registry: no such host", EnvironmentLacksError, "network"),
        ("nvcc: error: expected a ;", None, "the build failed"),
        *(
            (said, EnvironmentLacksError, "engine stopped during the build")
            for said in (
                "ERROR: failed to build: failed to solve: Unavailable: error reading from server:"
                " EOF",
                "ERROR: failed to build: failed to receive status: rpc error: code = Unavailable"
                " desc = error reading from server: EOF",
                "ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the"
                " docker daemon running?",
            )
        ),
    ],
)
def test_failed_build_is_explained_from_its_log(said, error, words):
    found = explained(CommandError(["docker"], 1, said))
    assert words in found.message
    assert said in found.message
    assert found.exit_code == (error.exit_code if error else 4)
    assert error is None or type(found) is error


def test_failed_step_output_is_shown():
    said = (
        "#11 0.2 inventory: extra: left-pad 1.0\n------\n > [final 1/4] RUN --network=none"
        " (python3 ...):\n0.2 inventory: extra: left-pad 1.0\n------\nDockerfile:37\n"
        "--------------------\n  37 | >>> RUN\n--------------------\n"
        'ERROR: process "x" did not complete successfully: exit code: 5\n'
    )
    for text in (said, said.replace("\n", "\r\n")):
        found = explained(CommandError(["docker"], 1, text))
        assert type(found) is IntegrityError
        assert "[final 1/4] failed:\n  0.2 inventory: extra: left-pad 1.0" in found.message
        assert ">>> RUN" not in found.message


def test_unknown_row_error_lists_rows(tasks):
    done = tasks("build", "--trt", "rtxx", "--dry-run")
    assert done.returncode == 2
    assert "rtx-1.7" in done.stderr


def test_build_without_docker_exits_with_3(tasks):
    done = tasks("build", "--dry-run", env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert done.returncode == 3
    assert "no Docker engine answers at DOCKER_HOST=unix:///nonexistent.sock" in done.stderr
    assert "unset DOCKER_HOST" in done.stderr


def test_drifted_image_files_are_not_built(monkeypatch):
    monkeypatch.setattr("trtyard.build.build.render", lambda *_: {Path("images/none"): ""})
    with pytest.raises(IntegrityError, match=r"images/none"):
        build("default", options=Options(dry_run=True))


def test_several_images_build_in_one_bake():
    runtime = replace(PUBLISHED, stage="runtime", image="trtyard/rtx-1.7-runtime:4567")
    command = list(map(str, bake_command([PUBLISHED, runtime], Path("docker"), "default")))
    assert command[-2:] == ["rtx-1-7", "rtx-1-7-runtime"]
    settings = [after for word, after in itertools.pairwise(command) if word == "--set"]
    assert "rtx-1-7.tags=trtyard/rtx-1.7:0123" in settings
    assert "rtx-1-7-runtime.tags=trtyard/rtx-1.7-runtime:4567" in settings
    for target in command[-2:]:
        assert sum(one.startswith(f"{target}.output=") for one in settings) == 1
        assert sum(one.startswith(f"{target}.labels.") for one in settings) == 1


def test_cache_options_apply_to_every_target():
    places = cache_places("--cache-from", ["type=local,src=a", "type=registry,ref=h/x"])
    command = bake_command([PUBLISHED], Path("docker"), "default", cache_from=places, cache_to=())
    assert "rtx-1-7.cache-from=type=local,src=a" in command
    assert "rtx-1-7.cache-from=type=registry,ref=h/x" in command
    assert not any("cache-to" in str(word) for word in command)


@pytest.mark.parametrize("word", ["cache", "ref=h/x", "type=", "type=local,cache", ""])
def test_malformed_cache_option_is_an_error(word):
    with pytest.raises(UsageError, match="--cache-to") as caught:
        cache_places("--cache-to", [word])
    assert "type=local,dest=cache" in caught.value.hint


def test_unresolved_row_is_not_built(tasks):
    done = tasks("build", "--trt", "7.0", "--dry-run")
    assert done.returncode == 3
    assert "debs ubuntu bionic" in done.stderr
    assert "base-image nvcr.io/nvidia/tensorrt 20.01-py3" in done.stderr
    assert "needs nvcr.io" in done.stderr
    assert "./run lock --upgrade 7.0" in done.stderr


def test_caches_of_several_images_must_differ():
    plans = [PUBLISHED, replace(PUBLISHED, stage="runtime")]
    place = "type=registry,ref=h/x"
    with pytest.raises(UsageError, match="2 images would overwrite each other"):
        bake_command(plans, Path("docker"), "default", cache_to=[f"{place},mode=max"])
    command = bake_command(plans, Path("docker"), "default", cache_to=[f"{place}:{{target}}"])
    for plan in plans:
        assert f"{plan.target}.cache-to={place}:{plan.target}" in command
    inline = bake_command(plans, Path("docker"), "default", cache_to=["type=inline"])
    assert f"{PUBLISHED.target}.cache-to=type=inline" in inline


class Unasked:
    """As much of an engine as is asked before anything is planned."""

    @staticmethod
    def version():
        return {"Version": "28.5.2", "ApiVersion": "1.51", "Arch": "amd64"}


def test_all_skips_unresolved_rows_with_a_notice(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("trtyard.build.build.connect", lambda: Unasked)
    monkeypatch.setattr("trtyard.build.build.docker_command", lambda: Path("docker"))
    monkeypatch.setattr(
        "trtyard.build.build._existing_or_planned",
        lambda client, docker, row, locked, stage, options: seen.append((row.name, stage)) or "x",
    )
    names = ("rtx-1.7", "11.3", "10.16", "8.6")
    assert build_all(["all"], stages=["final", "runtime"]) == ["x"] * 8
    assert seen == [(name, stage) for name in names for stage in ("final", "runtime")]
    said = capsys.readouterr().err
    parts = len(read_lock(LOCK_FILE).row("7.0").unresolved)
    assert f"row 7.0 is skipped: it has {parts} unresolved entries" in said


def test_a_row_named_twice_is_built_once(monkeypatch):
    monkeypatch.setattr("trtyard.build.build.connect", lambda: Unasked)
    monkeypatch.setattr("trtyard.build.build.docker_command", lambda: Path("docker"))
    monkeypatch.setattr("trtyard.build.build._existing_or_planned", lambda *_: "x")
    assert build_all(["rtx", "rtx-1.7"]) == ["x"]


class Engine:
    """An engine of which only the images and the folder are asked."""

    def __init__(self, folder, there=(), label=""):
        self.folder, self.there, self.api, self.label = folder, there, self, label

    def info(self):
        return {"DockerRootDir": str(self.folder)}

    def images(self, name):
        image = {"RepoTags": [f"{name}:0123"], "Labels": {"trtyard.lock": self.label}}
        return [image] if name in self.there else []


def test_disk_space_covers_all_first_builds(tmp_path, monkeypatch):
    plans = [PUBLISHED, replace(PUBLISHED, stage="runtime")]
    one, both = (7 * sum(map(wheel_bytes, some)) for some in (plans[:1], plans))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("trtyard.build.build.shutil.disk_usage", lambda _: usage(both - 1))
    assert one < both - 1
    check_disk(Engine(tmp_path), plans[:1])
    with pytest.raises(EnvironmentLacksError, match="first build needs about"):
        check_disk(Engine(tmp_path), plans)
    check_disk(Engine(tmp_path, there=[f"trtyard/{ROW.name}"]), plans)
    check_disk(Engine(tmp_path / "elsewhere"), plans)


@pytest.mark.parametrize(("label", "fits"), [("", False), ("of this lock", True)])
def test_disk_check_ignores_existing_layers(tmp_path, monkeypatch, label, fits):
    locked = read_lock(LOCK_FILE).row("11.3")
    plan = replace(PUBLISHED, row=read_matrix(MATRIX_FILE).row("11.3"), locked=locked)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("trtyard.build.build.shutil.disk_usage", lambda _: usage(2e9))
    label = label and PUBLISHED.locked.matrix_sha256
    engine = Engine(tmp_path, there=[f"trtyard/{ROW.name}"], label=label)
    refused = pytest.raises(EnvironmentLacksError, match="needs about 21 GB")
    with contextlib.nullcontext() if fits else refused:  # TensorRT and what only compiles fit
        check_disk(engine, [plan])
