import json
import os
import re
import shlex
import tarfile

import pytest
from conftest import copy_of, run_task

from trtyard.build.bake import DEFAULT_BUILDER, VARIABLES
from trtyard.build.build import plan_of
from trtyard.build.local_base import have_bases
from trtyard.core.inventory import read_debs, read_requirements
from trtyard.lock.file import read_lock
from trtyard.render.dockerfiles import IMAGES, INVENTORY_PATH, target_of
from trtyard.system.docker_engine import docker_command
from trtyard.system.processes import output_of
from trtyard.system.uv import LOCK_FILE, ROOT

TEMPORARY = "/tmp"  # noqa: S108 - the image's
SETTINGS = {"network_mode": "none", "remove": True}


def in_container(engine, image, *command, **settings):
    words = {"entrypoint": command[0], "command": list(command[1:])}
    return engine.containers.run(image, **words, **{**SETTINGS, **settings}).decode()


def test_image_matches_its_lists(engine, image, row):
    found = json.loads(in_container(engine, image, "cat", INVENTORY_PATH))
    lists = ROOT / IMAGES / row.name
    packages = read_requirements((lists / "requirements.txt").read_text())
    packages.update(read_requirements((lists / "sources.txt").read_text()))
    assert {name: facts["version"] for name, facts in found["packages"].items()} == packages
    debs = read_debs((lists / "debs.txt").read_text())
    assert found["debs"].keys() == debs.keys()
    declared = {name: version for name, _, version in found["base"].get("other_versions", [])}
    assert found["debs"] == {**debs, **declared}


@pytest.mark.parametrize("change", ["one less", "one more"])
def test_build_fails_if_image_differs_from_its_lists(engine, image, row, tmp_path, change):
    listed = (ROOT / IMAGES / row.name / "requirements.txt").read_text()
    listed += (ROOT / IMAGES / row.name / "sources.txt").read_text()
    lines = listed.splitlines(keepends=True)
    lines = lines[1:] if change == "one less" else ["no-such-package==1.0\n", *lines]
    (tmp_path / "packages.txt").write_text("".join(lines))
    (tmp_path / "debs.txt").write_text((ROOT / IMAGES / row.name / "debs.txt").read_text())
    script = "trtyard/core/inventory.py"
    mounts = {str(tmp_path): {"bind": "/lists"}, str(ROOT / script): {"bind": "/inventory.py"}}
    container = engine.containers.run(
        image,
        entrypoint="python3",
        command=shlex.split(
            "-I /inventory.py --environment /opt/trtyard/env --write /tmp/inventory.json"
            " --debs /lists/debs.txt --packages /lists/packages.txt"
        ),
        volumes={path: {**mount, "mode": "ro"} for path, mount in mounts.items()},
        network_mode="none",
        user="0:0",
        detach=True,
    )
    try:
        code = container.wait()["StatusCode"]
        said = container.logs().decode()
    finally:
        container.remove(force=True)
    assert code == 5
    assert ("extra: " if change == "one less" else "missing: no-such-package") in said


def test_image_has_no_compilers_test_tools_or_build_files(engine, image):
    script = (
        "find / -xdev ( -name g++* -o -name nvcc -o -name pip -o -name uv -o -name pytest ) "
        "-not -path /proc/* -not -path /opt/trtyard/env/*/dist-info/* "
        "-path */bin/*"
    )
    assert in_container(engine, image, *script.split(), user="0:0") == ""
    for folder in (TEMPORARY, "/var/lib/apt/lists", "/var/cache/apt", "~root/.cache"):
        script = f"ls -A {folder} 2>/dev/null || true"
        assert in_container(engine, image, "sh", "-c", script, user="0:0") == "", folder


def test_image_names_its_base(engine, image):
    label = engine.images.get(image).labels["trtyard.base"]
    assert re.match(r"local: bookworm .* \d+ of \d+ packages|published: \S+@sha256:", label)


def test_image_runs_unprivileged_and_shows_usage(engine, image):
    assert in_container(engine, image, "id", "-u").strip() == "1000"
    said = engine.containers.run(image, **SETTINGS).decode()
    assert said.startswith("usage: ")


def test_pipeline_libraries_load(engine, image):
    code = (
        "import ctypes, torch, torchvision, onnx, onnxruntime, tensorrt_rtx_bindings, pycuda\n"
        "ctypes.CDLL('/opt/trtyard/plugins/libtrtyard_plugins.so').trtyard_abi_version()\n"
        "print(torch.__version__)"
    )
    found = in_container(engine, image, "python", "-W", "error::ImportWarning", "-c", code)
    assert found.startswith("2.")


def test_second_build_is_cached(tree, image):
    done = run_task("build", root=tree)
    assert done.returncode == 0
    assert f"{image} is up to date" in done.stderr
    assert "exporting" not in done.stderr


def test_bake_file_loads_and_passes_buildkit_checks(engine, row):
    locked = read_lock(LOCK_FILE).row(row.name)
    kind = "local" if have_bases(engine, row, locked) else "published"
    plan = plan_of(engine, row, locked, kind)
    # Without this the linter's answer would be exported as the image.
    command = plan.command(docker_command(), DEFAULT_BUILDER, output="type=cacheonly")
    env = {**os.environ, **VARIABLES}
    target = json.loads(output_of([*command, "--print"], cwd=ROOT, env=env))["target"]
    assert target[target_of(row.name)]["tags"] == [plan.image]
    assert "no warnings found" in output_of([*command, "--check"], cwd=ROOT, env=env)


def test_image_does_not_keep_checkout_modes(engine, row, tree, tmp_path):
    """A umask of 077 would give code that the container's user cannot read, under the same name."""
    checkout, code = copy_of(tree, tmp_path), tmp_path / "code.tar"
    for path in (checkout / "trtyard").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    locked = read_lock(LOCK_FILE).row(row.name)
    kind = "local" if have_bases(engine, row, locked) else "published"
    plan = plan_of(engine, row, locked, kind)
    command = plan.command(docker_command(), DEFAULT_BUILDER, output=f"type=tar,dest={code}")
    *words, target = command
    output_of(
        [*words, "--set", f"{target}.target=code", target],
        cwd=checkout,
        env={**os.environ, **VARIABLES},
    )
    with tarfile.open(code) as tar:
        modes = {
            one.name: (one.isdir(), one.mode) for one in tar if one.name.startswith("out/opt/")
        }
    assert any(name.endswith("/trtyard/core/files.py") for name in modes)
    assert set(modes.values()) == {(True, 0o755), (False, 0o644)}
