"""Layers of an environment: what rows share, and what of an image is its own."""

import json
import re

import pytest

from trtyard.lock.file import read_lock, requirements_text
from trtyard.matrix.reader import read_matrix
from trtyard.render.dockerfiles import IMAGES, image_wheels, layers_of, render, stages_of
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

MATRIX, LOCK = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
FILES = render(MATRIX, LOCK)
ON_DEBIAN = ("rtx-1.7", "11.3", "10.16", "8.6")
every_row = pytest.mark.parametrize("name", MATRIX.rows)


def rendered(name, file):
    return FILES[IMAGES / name / file]


def stage(name, which):
    """Return a stage of the row's Dockerfile as BuildKit reads it."""
    text = rendered(name, "Dockerfile")
    found = re.search(rf"^FROM \S+ AS {which}\n(?:.*\n)*?(?=^FROM |^# ---|\Z)", text, re.MULTILINE)
    return found[0].rstrip()


@every_row
def test_layers_have_each_package_once(name):
    row, locked = MATRIX.rows[name], LOCK.row(name)
    for which, prefix, whole in (
        ("final", "env", "requirements.txt"),
        ("runtime", "runtime-env", "requirements-runtime.txt"),
    ):
        if which not in stages_of(row):
            continue
        layers = layers_of(row, image_wheels(row, locked, which), prefix)
        lines = "".join(rendered(name, layer.file) for layer in layers).splitlines()
        assert sorted(lines) == sorted(rendered(name, whole).splitlines())
        text = stage(name, "env" if which == "final" else "runtime-env")
        named = re.findall(r"/steps/install-packages /tmp/row/(\S+)", text)
        assert named == [layer.file for layer in layers]


@pytest.mark.parametrize("name", ON_DEBIAN)
def test_distribution_layers_are_shared(name):
    assert stage(name, "base") == stage("rtx-1.7", "base")
    assert rendered(name, "debs.txt") == rendered("rtx-1.7", "debs.txt")
    assert rendered(name, "tools.txt") == rendered("rtx-1.7", "tools.txt")
    assert "images/" not in stage(name, "env")  # a path of the row's own would be a key of its own


@pytest.mark.parametrize(
    ("name", "shared"), [("11.3", ["cuda", "packages", "torch"]), ("10.16", ["cuda", "packages"])]
)
def test_rows_of_cuda_13_share_the_layers_below_tensorrt(name, shared):
    for layer in shared:
        assert rendered(name, f"env-{layer}.txt") == rendered("rtx-1.7", f"env-{layer}.txt")
    steps = stage(name, "env").split("\nRUN ")
    others = stage("rtx-1.7", "env").split("\nRUN ")
    assert steps[: 1 + len(shared)] == others[: 1 + len(shared)]
    assert rendered(name, "requirements-compile.txt").count("nvidia-") == 6


@pytest.mark.parametrize("name", ["11.3", "10.16", "8.6"])
def test_only_the_tensorrt_step_gets_vendor_files(name):
    for which in ("env", "runtime-env"):
        *before, last = stage(name, which).split("\nRUN ")
        assert not any("vendor" in step for step in before)
        assert "target=/tmp/row/vendor.txt" in last
        assert "fetch-vendor" in last
    (wheel,) = (one for one in LOCK.row(name).wheels if one.is_vendors)
    line = f"{wheel.filename} {wheel.sha256} {wheel.name} {wheel.origin}\n"
    assert rendered(name, "vendor.txt") == line
    assert requirements_text((wheel,)) in rendered(name, "env-tensorrt.txt")


def test_a_row_on_a_vendors_base_has_one_layer():
    assert rendered("7.0", "env-packages.txt") == rendered("7.0", "requirements.txt")


def test_plan_shows_layers_not_shared_with_the_default_row(tasks):
    done = tasks("plan", "--trt", "all", "--json", env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert done.returncode == 0, done.stderr
    own = {one["row"]: one["own"] for one in json.loads(done.stdout)["images"]}
    assert {one["beyond"] for one in own.values()} == {"rtx-1.7"}
    assert own["rtx-1.7"]["own_bytes"] == own["11.3"]["own_bytes"] == 0
    torch = [
        wheel.size
        for wheel in LOCK.row("10.16").wheels
        if wheel.name in ("torch", "torchvision", "triton", "cuda-toolkit", "setuptools")
    ]
    assert own["10.16"]["own_bytes"] == sum(torch)
    assert own["10.16"]["tensorrt_bytes"] > 3_728_705_565
    (unknown,) = own["11.3"]["unknown"]
    assert unknown.startswith("tensorrt_cu13_libs-11.3.0.99")
    shown = tasks("plan", "--trt", "10.16").stdout
    assert "are not shared with row rtx-1.7; plus TensorRT, 3.73 GB" in shown


def test_nvcc_of_8_6_is_unpacked_by_hash_in_compiling_stages():
    lines = rendered("8.6", "unpacked-debs.txt").splitlines()
    assert {line.split()[0] for line in lines} == set(MATRIX.rows["8.6"].debs.unpacked)
    assert all(re.fullmatch(r"\S+ \S+ (amd64|all) [0-9a-f]{64}", line) for line in lines)
    dockerfile = rendered("8.6", "Dockerfile")
    assert "unpack-debs" in stage("8.6", "compiler")
    assert 'pathlib.Path("/tmp/headers")' in stage("8.6", "plugins")
    assert "from=parser-source,source=/TensorRT/include,target=/tmp/headers" in dockerfile
    assert ".git#a25ca8bba2a164179046afc2f5d7f478e280f8c0:include /TensorRT/include" in dockerfile


def test_patched_parser_of_8_6_replaces_the_wheels_library():
    text = stage("8.6", "final")
    assert (
        "replace-library --in /opt/trtyard/env/lib/python3.11/site-packages/tensorrt_libs" in text
    )
    assert text.index("replace-library --in") < text.index("inventory.py --environment")
    assert '--patched "tensorrt_libs/' in text
    assert "from=env,source=/opt/trtyard/env/lib/python3.11/site-packages/tensorrt_libs" in stage(
        "8.6", "parser"
    )


@pytest.mark.parametrize("name", ON_DEBIAN)
def test_row_with_built_parser_installs_cmake_tools(name):
    if MATRIX.rows[name].parser == "patched":  # Debian's cmake only recommends make
        assert {"cmake", "make"} <= {deb.name for deb in LOCK.row(name).debs_of("build")}
