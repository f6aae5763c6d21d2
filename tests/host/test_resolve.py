"""Which of a package's files is locked; resolving itself needs a network."""

import pytest

from trtyard.command import CommandError
from trtyard.lock.resolve import _best_wheel, _compiled
from trtyard.matrix.reader import read_matrix
from trtyard.pipeline.errors import EnvironmentLacksError, UsageError
from trtyard.tools import MATRIX_FILE


@pytest.fixture(scope="module")
def row():
    return read_matrix(MATRIX_FILE).row("rtx")


def package(*filenames):
    wheels = [
        {"url": f"index/{name}", "size": 1, "hashes": {"sha256": "0" * 64}} for name in filenames
    ]
    return {"name": "demo", "version": "1.0", "wheels": wheels}


def chosen(row, python, *filenames):
    return _best_wheel(package(*filenames), python, row).filename


def test_the_wheel_for_that_python_wins_over_a_pure_one(row):
    pure = "demo-1.0-py3-none-any.whl"
    exact = "demo-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
    assert chosen(row, "3.11", pure, exact) == exact
    assert chosen(row, "3.12", pure, exact) == pure


def test_a_stable_abi_serves_later_pythons(row):
    stable = "demo-1.0-cp311-abi3-manylinux_2_28_x86_64.whl"
    assert chosen(row, "3.13", stable) == stable
    with pytest.raises(UsageError, match="no wheel"):
        chosen(row, "3.10", stable)


def test_the_newest_glibc_within_the_rows_own_wins(row):
    names = [f"demo-1.0-cp311-cp311-manylinux_2_{n}_x86_64.whl" for n in (17, 28, 34)]
    assert chosen(row, "3.11", *names) == names[1]


@pytest.mark.parametrize(
    "name",
    [
        "demo-1.0-cp311-cp311-manylinux_2_34_x86_64.whl",
        "demo-1.0-cp311-cp311-musllinux_1_2_x86_64.whl",
        "demo-1.0-cp311-cp311-manylinux_2_17_aarch64.whl",
        "demo-1.0-cp311-cp311-win_amd64.whl",
        "demo-1.0-cp311-cp311t-manylinux_2_17_x86_64.whl",
        "demo-1.0-pp311-pypy311_pp73-manylinux_2_17_x86_64.whl",
        "demo-1.0-cp312-cp312-manylinux_2_17_x86_64.whl",
        "not a wheel.whl",
    ],
)
def test_what_cannot_run_there_is_never_chosen(row, name):
    with pytest.raises(UsageError) as caught:
        chosen(row, "3.11", name)
    assert "demo 1.0" in caught.value.message
    assert "3.11" in caught.value.mend


def test_an_index_that_tells_no_hash_is_refused(row):
    wheel = {"url": "index/demo-1.0-py3-none-any.whl", "size": 1, "hashes": {"md5": "0"}}
    with pytest.raises(EnvironmentLacksError, match="sha256"):
        _best_wheel({"name": "demo", "version": "1.0", "wheels": [wheel]}, "3.11", row)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("error: Request failed\n  cause: dns error\n", EnvironmentLacksError),
        ("Because there is no version of torch==2.99.0 ...", UsageError),
    ],
)
def test_a_network_that_is_down_is_told_from_a_row_that_cannot_be(row, monkeypatch, said, error):
    def fail(*_, **__):
        raise CommandError(["uv"], 2, said)

    monkeypatch.setattr("trtyard.lock.resolve._uv_packages", fail)
    with pytest.raises(error):
        _compiled(row, "3.11")
