import os
import sys

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.system import interpreters
from trtyard.system.interpreters import find_python

OWN = f"3.{sys.version_info.minor}"


@pytest.fixture
def only_this_path(tmp_path, monkeypatch):
    """Return a folder that is all of PATH, on a machine with no other place for Pythons."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "no pyenv"))
    monkeypatch.setattr(interpreters.sys, "_base_executable", str(tmp_path / "none"), raising=False)
    monkeypatch.setattr(interpreters, "USUAL_FOLDERS", ())
    return tmp_path


def executable(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_shim_that_exists_and_fails_is_passed_over(only_this_path, tmp_path, monkeypatch):
    (tmp_path / "second").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{tmp_path / 'second'}")
    executable(tmp_path / f"python{OWN}", "#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    real = tmp_path / "second" / f"python{OWN}"
    real.symlink_to(os.path.realpath(sys.executable))
    assert find_python([OWN]) == (OWN, real)


def test_first_requested_version_is_preferred(only_this_path, tmp_path):
    real = tmp_path / "python3"
    real.symlink_to(os.path.realpath(sys.executable))
    assert find_python(["3.99", OWN]) == (OWN, real)


@pytest.mark.parametrize(
    "said",
    [
        f"{OWN} PyPy x86_64 True False",
        f"{OWN} CPython aarch64 True False",
        f"{OWN} CPython x86_64 True True",  # free-threaded: other wheels
        "",
    ],
)
def test_python_that_fits_no_wheel_is_rejected(only_this_path, tmp_path, said):
    executable(tmp_path / f"python{OWN}", f"#!/bin/sh\necho '{said}'\n")
    with pytest.raises(EnvironmentLacksError):
        find_python([OWN])


def test_missing_python_error_says_what_to_install(only_this_path):
    with pytest.raises(EnvironmentLacksError) as caught:
        find_python(["3.11", "3.10"])
    assert "no Python 3.10 or 3.11" in caught.value.message
    assert "apt-get install python3.11" in caught.value.hint
    assert caught.value.exit_code == 3


def test_a_pyenv_that_cannot_be_read_is_passed_over(only_this_path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYENV_ROOT", "a" * 300)  # longer than a name can be: even root is refused
    with pytest.raises(EnvironmentLacksError, match="this machine has no Python"):
        find_python(["3.6"])
