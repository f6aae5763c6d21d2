"""Resolving debs with this machine's real apt, where it has lists of the row's suite."""

import re
import shutil

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.debs import resolve_debs, suite_sources
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import MATRIX_FILE


@pytest.fixture(scope="module")
def row():
    return read_matrix(MATRIX_FILE).row("rtx")


@pytest.fixture(scope="module")
def debs(row):
    if shutil.which("apt-get") is None:
        pytest.skip("no apt on this machine")
    try:
        suite_sources(row.base.suite)
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    return {deb.name: deb for deb in resolve_debs(row)}


def test_requested_debs_come_with_dependencies(row, debs):
    for stage in ("base", "runtime", "build"):
        for name in getattr(row.debs, stage):
            assert debs[name].stage == stage
    assert debs["libc6"].stage == "base"
    assert debs["libpython3-stdlib"].stage == "runtime"
    assert debs["libstdc++-12-dev"].stage == "build"


def test_debs_installed_here_do_not_matter(debs):
    assert "dpkg" in debs  # installed wherever there is apt, and listed all the same


def test_every_deb_has_a_hash_and_the_suites_release(debs):
    assert all(re.fullmatch("[0-9a-f]{64}", deb.sha256) for deb in debs.values())
    assert debs["base-files"].version.startswith("12")  # Debian 12, also if apt has other releases
    assert debs["libc6"].version.startswith("2.36-")


def test_recommended_packages_and_perl_are_left_out(debs):
    assert "perl" not in {name for name, deb in debs.items() if deb.stage != "build"}
    assert "fakeroot" not in debs


def test_unknown_suite_error_has_a_hint():
    if shutil.which("apt-get") is None:
        pytest.skip("no apt on this machine")
    with pytest.raises(EnvironmentLacksError, match="no package lists for nosuchsuite"):
        suite_sources("nosuchsuite")
