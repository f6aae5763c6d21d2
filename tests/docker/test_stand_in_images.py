"""Images of rows whose TensorRT is on NVIDIA's own index only, built with stand-ins for its files.

Everything else in them is real: Debian's packages, PyPI's wheels, the row's nvcc, both models.
TRTYARD_STAND_IN_ROWS names the rows, with commas between, or ``all``; 11.3 without it, whose layers
below TensorRT are the default row's.
"""

import hashlib
import json
import os
import shutil

import pytest
from conftest import copy_of, run_task
from stand_ins import lock_to_stand_ins, serving, write_mirrors
from test_image import in_container

from trtyard.core.inventory import read_debs, read_requirements
from trtyard.matrix.reader import read_matrix
from trtyard.render.dockerfiles import IMAGES, INVENTORY_PATH
from trtyard.system.uv import MATRIX_FILE

VARIABLE = "TRTYARD_STAND_IN_ROWS"
MATRIX = read_matrix(MATRIX_FILE)
ROWS = [row.name for row in MATRIX.rows.values() if row.vendor_packages]
DEFAULT = "11.3"
PLUGINS = "/opt/trtyard/plugins/"
LOOK = """
import ctypes, sys
kernels = ctypes.CDLL(sys.argv[1] + "libtrtyard_plugins.so")
print(kernels.trtyard_abi_version())
for name in sys.argv[2:]:
    ctypes.CDLL(name)
"""


def wanted_rows():
    """Return the rows to build, as the environment variable says."""
    named = os.environ.get(VARIABLE, "") or DEFAULT
    names = ROWS if named == "all" else [MATRIX.row(name).name for name in named.split(",")]
    assert set(names) <= set(ROWS), f"{VARIABLE}: rows with stand-ins are {', '.join(ROWS)}"
    return names


@pytest.fixture(scope="module")
def served():
    """Return a function that serves a folder on loopback until the tests end."""
    open_ones = []

    def serve(folder):
        server = serving(folder)
        open_ones.append(server)
        return server.__enter__()

    yield serve
    for server in open_ones:
        server.__exit__(None, None, None)


@pytest.fixture(scope="module")
def stand_in_of(tree, served, tmp_path_factory):
    """Return a function that gives a checkout of its own, locked to stand-ins of the row."""

    def make(name):
        folder = tmp_path_factory.mktemp("stand-in")
        root = copy_of(tree, folder)
        made = lock_to_stand_ins(root, name, folder / "served")
        write_mirrors(root, served(made.served), folder / "served" / "git")
        rendered = run_task("render", root=root)
        assert rendered.returncode == 0, rendered.stderr
        return made

    return make


@pytest.fixture(scope="module", params=wanted_rows())
def built(request, engine, stand_in_of):
    """Build both images of the row in one command; return the checkout and their names."""
    made = stand_in_of(request.param)
    assert run_task("lock", "--check", root=made.root).returncode == 0
    done = run_task("build", "--trt", made.row, "--target", "final,runtime", root=made.root)
    assert done.returncode == 0, done.stderr[-6000:]
    images = done.stdout.split()
    yield made, *images
    for image in images:
        engine.images.remove(image)
    shutil.rmtree(made.root / ".trtyard")  # its packages are large


@pytest.mark.parametrize("target", ["final", "runtime"])
def test_both_images_match_their_lists(engine, built, target):
    made, final, runtime = built
    image = final if target == "final" else runtime
    found = json.loads(in_container(engine, image, "cat", INVENTORY_PATH))
    lists = made.root / IMAGES / made.row
    file = "requirements.txt" if target == "final" else "requirements-runtime.txt"
    packages = read_requirements((lists / file).read_text())
    packages.update(read_requirements((lists / "sources.txt").read_text()))
    assert {name: facts["version"] for name, facts in found["packages"].items()} == packages
    declared = {name: version for name, _, version in found["base"].get("other_versions", [])}
    assert found["debs"] == {**read_debs((lists / "debs.txt").read_text()), **declared}


def test_build_records_the_pinned_files_source(built):
    made, _, _ = built
    assert (made.pinned.source, made.pinned.sha256) == ("vendor", made.sha256)


def test_kernels_are_compiled_by_the_rows_nvcc(engine, built):
    made, final, runtime = built
    row = MATRIX.row(made.row)
    for image in (final, runtime):
        note = json.loads(
            in_container(engine, image, "cat", f"{PLUGINS}libtrtyard_plugins.so.json")
        )
        assert f"cuda_{row.nvcc}." in note["compiler"]
        assert note["architectures"] == list(row.architectures)
        shells = [f"{PLUGINS}libtrtyard_plugins_v2.so"] if "cpp-v2" in row.plugin_shells else []
        command = ("python", "-c", LOOK, PLUGINS, *shells)
        assert int(in_container(engine, image, *command)) > 0


@pytest.mark.parametrize("model", ["alexnet", "faster_rcnn"])
def test_models_are_exported_in_the_image_with_parity(built, model):
    made, _, _ = built
    words = ("convert", "--trt", made.row, "--model", model, "--in", "docker", "--until", "onnx")
    done = run_task(*words, root=made.root)
    assert done.returncode == 0, done.stderr
    report = json.loads((made.root / "out" / made.row / model / "report.json").read_text())
    assert (report["row"], report["verdict"]) == (made.row, {"exit_code": 0})


def test_built_parser_is_installed_and_finds_tensorrt(engine, built):
    made, final, _ = built
    row = MATRIX.row(made.row)
    if row.parser != "patched":
        pytest.skip(f"row {made.row} takes the stock parser")
    parser = f"/opt/trtyard/env/lib/python{row.python}/site-packages/tensorrt_libs/"
    parser += "libnvonnxparser.so.8"
    # Of the stand-in's sources, linked with its protobuf 3.20.1 and headers of 8, and no wheel's.
    code = f"import ctypes; print(ctypes.CDLL('{parser}').trtyard_stand_in_parser())"
    assert in_container(engine, final, "python", "-c", code).strip() == str(3020001 + 8)
    libraries = json.loads(in_container(engine, final, "cat", INVENTORY_PATH))["libraries"]
    assert parser in {one["path"] for one in libraries}


def build(made):
    """Build an image that no other test has built, because one of its files differs."""
    with (made.root / "trtyard" / "core" / "errors.py").open("a") as file:
        file.write(f"# {made.root}\n")
    return run_task("build", "--trt", made.row, root=made.root)


@pytest.mark.parametrize(
    ("served_instead", "said"),
    [
        (b"another", f"found {hashlib.sha256(b'another').hexdigest()}"),
        (b"<!DOCTYPE html><title>Log in</title>", "sent a web page instead of the file"),
    ],
)
def test_wrong_pinned_file_exits_5(engine, stand_in_of, served_instead, said):
    made = stand_in_of(DEFAULT)
    made.file.write_bytes(served_instead)
    done = build(made)
    assert done.returncode == 5, done.stderr
    for words in (made.filename, f"expected sha256 {made.sha256} (a stand-in)", said):
        assert words in done.stderr
    assert made.pinned.source == "public-pin"


def test_unreachable_index_exits_3(engine, stand_in_of):
    made = stand_in_of(DEFAULT)
    write_mirrors(made.root, "http://127.0.0.1:9", made.root / "no-git")
    done = build(made)
    assert done.returncode == 3, done.stderr
    place = made.root / ".trtyard" / "vendor" / made.row / made.filename
    for words in (f"{made.filename}, sha256 {made.sha256}, cannot be fetched", str(place)):
        assert words in done.stderr
