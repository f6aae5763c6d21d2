"""The patches of torch 1.4 on the real one: the graph with and without them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from old_python import UTF8

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.run.environment import make_environment
from trtyard.system.interpreters import find_python
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

SERIES = ROOT / "patches" / "torch" / "1.4.0"
PATCHED_FILE = "torch/onnx/symbolic_opset10.py"
OWN_PYTHON = "TRTYARD_TORCH_1_4"  # a Python with row 7.0's packages, in place of the row's own


@pytest.fixture(scope="module")
def python():
    if os.environ.get(OWN_PYTHON):
        return Path(os.environ[OWN_PYTHON])
    row = read_matrix(MATRIX_FILE).row("7.0")
    try:
        find_python(row.host_pythons)
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    return make_environment(row, read_lock(LOCK_FILE).row(row.name)).python


@pytest.fixture
def torch_copy(python, tmp_path):
    """Return a folder with the same torch, but with files of torch/onnx of its own."""
    script = "import torch; print(torch.__file__)"
    found = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True)
    original, copy = Path(found.stdout.strip()).parent, tmp_path / "packages" / "torch"
    copy.mkdir(parents=True)
    for entry in original.iterdir():
        if entry.name == "onnx":
            shutil.copytree(entry, copy / "onnx", ignore=shutil.ignore_patterns("__pycache__"))
        elif entry.is_dir() or entry.suffix == ".so":
            (copy / entry.name).symlink_to(entry)
        else:
            shutil.copy2(entry, copy / entry.name)
    return copy.parent


def run(python, *words, path=()):
    folders = os.pathsep.join(map(str, [*path, ROOT]))
    variables = {"PYTHONPATH": folders, "PATH": os.environ["PATH"], **UTF8}
    done = subprocess.run([python, *words], env=variables, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def exports(python, *words, path=()):
    script = ROOT / "tests" / "rows" / "export_topk_and_arange.py"
    code, output, errors = run(python, script, *words, path=path)
    assert code == 0, errors
    return json.loads(output)


def patching(python, command, root):
    script = ROOT / "trtyard" / "core" / "patches" / "patching.py"
    words = ["-I", script, command, "--series", SERIES, "--into", root]
    return run(python, *words, "--release", "torch=1.4.0", "--release", "tensorrt=7.0.0.11")


def assert_is_upstreams(facts):
    # The error that it gives in TensorRT 7.0: the parser wants weights as the second input.
    assert (facts["topk_inputs"], facts["topk_k"], facts["k_is_constant"]) == (2, None, [False])
    assert (facts["ranges"], facts["nonzeros"]) == (0, 3)
    assert facts["valid"]
    assert facts["runs"]


def assert_is_for_tensorrt(facts):
    assert (facts["topk_inputs"], facts["topk_k"], facts["k_is_constant"]) == (1, 3, [])
    assert (facts["ranges"], facts["nonzeros"]) == (3, 0)
    assert not facts["valid"]
    assert not facts["runs"]


def test_patches_can_be_toggled_in_one_process(python):
    words = ("export", "patched", "export", "upstream", "patched", "export")
    shipped, patched, after, upstream, again, at_last = exports(python, *words)
    for facts in (shipped, after, upstream, at_last):
        assert not facts["is_patched"]
        assert_is_upstreams(facts)
    for facts in (patched, again):
        assert_is_for_tensorrt(facts)


def test_patched_torch_exports_for_tensorrt_and_reverts(python, torch_copy):
    before = (torch_copy / PATCHED_FILE).read_bytes()
    code, output, errors = patching(python, "apply", torch_copy)
    assert code == 0, errors
    assert f"{PATCHED_FILE}: now patched" in output
    shipped, upstream, after = exports(python, "export", "upstream", "export", path=[torch_copy])
    assert shipped["is_patched"]
    assert_is_for_tensorrt(shipped)
    assert_is_upstreams(upstream)
    assert_is_for_tensorrt(after)
    assert patching(python, "reverse", torch_copy)[0] == 0
    assert (torch_copy / PATCHED_FILE).read_bytes() == before


def test_a_torch_with_one_byte_changed_is_refused(python, torch_copy):
    file = torch_copy / PATCHED_FILE
    data = file.read_bytes().replace(b"fmod_i=1", b"fmod_i=0")
    file.write_bytes(data)
    code, _, errors = patching(python, "apply", torch_copy)
    assert code == 5
    assert PATCHED_FILE in errors
    assert "expected sha256 21d51fc3" in errors
    assert file.read_bytes() == data
