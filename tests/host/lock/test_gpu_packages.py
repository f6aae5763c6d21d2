"""The packages of the key ``gpu``: locked like the others, and in nothing else of a row."""

import json
from dataclasses import replace

import pytest
from loopback_index import served, variables
from tiny_wheels import make_wheel

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.lock import relock as module
from trtyard.lock.file import check_row, lock_text, read_lock
from trtyard.lock.resolve import resolve_gpu
from trtyard.matrix.reader import parse_matrix, read_matrix
from trtyard.render.dockerfiles import render
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

TAG = "cp311-cp311-manylinux_2_28_x86_64"


@pytest.fixture
def row():
    return read_matrix(MATRIX_FILE).row("rtx")


@pytest.fixture
def lock():
    return read_lock(LOCK_FILE)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Serve an onnxruntime-gpu for Python 3.11 that needs ``low``, and two releases of ``low``."""
    store = tmp_path / "store"
    store.mkdir()
    make_wheel(store, "low", "1.0")
    make_wheel(store, "low", "2.0")
    for version in ("1.31.1", "1.31.2"):
        make_wheel(store, "onnxruntime-gpu", version, requires=["low", "also"], tag=TAG)
    make_wheel(store, "also", "3.0")
    with served(store) as found:
        for name, value in variables(found, tmp_path).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        yield found


def test_gpu_packages_do_not_change_the_rows_hash(row):
    assert row.gpu
    assert replace(row, gpu={}).sha256() == row.sha256()


def test_gpu_packages_change_no_rendered_file(lock):
    matrix = read_matrix(MATRIX_FILE)
    without = replace(lock, rows={name: replace(one, gpu=()) for name, one in lock.rows.items()})
    rows = {name: replace(one, gpu={}) for name, one in matrix.rows.items()}
    assert render(replace(matrix, rows=rows), without) == render(matrix, lock)


def test_a_row_without_gpu_packages_has_no_such_key(lock):
    rows = {one["name"]: one for one in json.loads(lock_text(lock))["rows"]}
    assert "gpu" not in rows["8.6"]
    assert [one["name"] for one in rows["11.3"]["gpu"]] == ["onnxruntime-gpu"]


def test_each_python_has_the_wheel_that_it_can_install(lock):
    locked = lock.row("rtx-1.7")
    found = {python: locked.gpu_for(python) for python in ("3.10", "3.11", "3.14")}
    assert found["3.10"] == ()
    assert "cp311" in found["3.11"][0].filename
    assert "cp314" in found["3.14"][0].filename


def test_gpu_wheels_come_without_the_rows_packages(row, lock, index):
    low = make_wheel(index.folder, "low", "1.0")
    locked = replace(lock.row(row.name), wheels=(low,))
    found = resolve_gpu(row, locked)
    assert [(one.name, one.version) for one in found] == [
        ("also", "3.0"),
        ("onnxruntime-gpu", "1.31.1"),
    ]
    assert [one.pythons for one in found] == [("3.11",), ("3.11",)]


def test_release_that_does_not_exist_is_a_usage_error(row, lock, index):
    with pytest.raises(UsageError, match=r"row rtx-1\.7 cannot be resolved for Python 3\.11"):
        resolve_gpu(replace(row, gpu={"onnxruntime-gpu": "9.0"}), lock.row(row.name))


def test_unreachable_index_is_not_a_usage_error(row, lock, index, monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(EnvironmentLacksError):
        resolve_gpu(row, lock.row(row.name))


def test_lock_of_another_release_is_refused(row, lock):
    locked = lock.row(row.name)
    other = replace(row, gpu={"onnxruntime-gpu": "1.31.2"})
    for one, kept in (
        (other, locked),
        (replace(row, gpu={}), locked),
        (row, replace(locked, gpu=())),
    ):
        with pytest.raises(IntegrityError, match="its gpu packages are not those"):
            check_row(one, kept)


def test_another_gpu_release_resolves_nothing_else(checkout, index, monkeypatch):
    for name in ("MATRIX_FILE", "LOCK_FILE"):
        file = checkout / getattr(module, name).name
        monkeypatch.setattr(module, name, file)
    monkeypatch.setattr(module, "resolved_patches", lambda *_, **__: [])
    monkeypatch.setattr("trtyard.lock.resolve.resolve_row", None)
    text = module.MATRIX_FILE.read_text().replace(
        'onnxruntime-gpu = "1.31.1"', 'onnxruntime-gpu = "1.31.2"', 1
    )
    module.MATRIX_FILE.write_text(text)
    before = read_lock(module.LOCK_FILE).rows
    module.relock()
    after = read_lock(module.LOCK_FILE).rows
    versions = {one.name: one.version for one in after["rtx-1.7"].gpu}
    assert versions["onnxruntime-gpu"] == "1.31.2"
    assert replace(after["rtx-1.7"], gpu=()) == replace(before["rtx-1.7"], gpu=())
    assert {**after, "rtx-1.7": None} == {**before, "rtx-1.7": None}


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ('numpy = "2.4.6"', "gpu must pin onnxruntime-gpu"),
        ('onnxruntime-gpu = "1.31.1"\nnumpy = "2.4.6"', "gpu and packages both name numpy"),
    ],
)
def test_a_table_without_sense_is_refused(table, problem):
    text = MATRIX_FILE.read_text().replace('onnxruntime-gpu = "1.31.1"', table, 1)
    with pytest.raises(UsageError, match=problem):
        parse_matrix(text, MATRIX_FILE)
