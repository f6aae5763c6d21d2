"""The version is the same everywhere."""

import trtyard
from trtyard.system.reading import parse_toml
from trtyard.system.uv import ROOT


def test_pyproject_has_the_package_version():
    project = parse_toml((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == trtyard.__version__


def test_version_option_prints_the_package_version(tasks):
    done = tasks("--version")
    assert (done.returncode, done.stdout) == (0, f"trtyard {trtyard.__version__}\n")


def test_changelog_has_the_package_version():
    assert f"\n## {trtyard.__version__} - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
