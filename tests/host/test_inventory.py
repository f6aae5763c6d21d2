import subprocess
import sys

import pytest

from trtyard.pipeline import inventory
from trtyard.pipeline.inventory import (
    Difference,
    compare,
    installed_packages,
    read_debs,
    read_requirements,
    without_declared,
)


def test_a_package_that_is_missing_too_much_or_another_version_is_a_difference():
    expected = {"same": "1", "gone": "2", "changed": "3"}
    found = {"same": "1", "changed": "4", "extra": "5"}
    assert compare(expected, found) == [
        Difference("changed", "3", "4"),
        Difference("extra", "", "5"),
        Difference("gone", "2", ""),
    ]
    assert compare(expected, dict(expected)) == []


def test_each_kind_of_difference_reads_as_what_it_is():
    assert str(Difference("a", "1", "")) == "missing: a 1"
    assert str(Difference("a", "", "2")) == "too much: a 2"
    assert str(Difference("a", "1", "2")) == "other version: a 2, expected 1"


def test_a_local_base_may_declare_other_versions_but_no_missing_or_extra_package():
    declared = {"other_versions": [["a", "1", "2"], ["b", "1", ""], ["c", "", "1"]]}
    differences = [
        Difference("a", "1", "2"),
        Difference("b", "1", ""),
        Difference("c", "", "1"),
        Difference("d", "1", "2"),
    ]
    assert [one.name for one in without_declared(differences, declared)] == ["b", "c", "d"]
    assert without_declared(differences, {}) == differences
    assert without_declared([Difference("a", "1", "3")], declared)  # not the version it declared


def test_the_lists_of_the_image_are_read():
    assert read_debs("g++ 4:12.2.0-3 amd64 00\n\nzlib1g 1:1.2 amd64 11\n") == {
        "g++": "4:12.2.0-3",
        "zlib1g": "1:1.2",
    }
    assert read_requirements("Ruamel_Yaml.Clib==1.0 --hash=sha256:00\n") == {
        "ruamel-yaml-clib": "1.0"
    }


@pytest.fixture
def environment(tmp_path):
    """Return an environment of two packages, as installers leave them."""
    for name, version in (("Alpha_One", "1.0"), ("beta", "2.5.post1")):
        folder = tmp_path / "lib/python3.11/site-packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: other\n"
        (folder / "METADATA").write_text(metadata)
        (folder / "RECORD").write_text(f"{name}/__init__.py,sha256=x,1\n")
    return tmp_path


def test_installed_packages_are_found_by_their_normalised_names(environment):
    found = installed_packages(environment)
    assert {name: facts["version"] for name, facts in found.items()} == {
        "alpha-one": "1.0",
        "beta": "2.5.post1",
    }
    assert len({facts["record_sha256"] for facts in found.values()}) == 2


@pytest.mark.parametrize(
    ("debs", "packages", "complaint"),
    [
        ("dash 1\n", "alpha-one==1.0\nbeta==2.5.post1\n", None),
        ("dash 2\n", "alpha-one==1.0\nbeta==2.5.post1\n", "other version: dash 1, expected 2"),
        ("dash 1\n", "alpha-one==1.0\n", "too much: beta 2.5.post1"),
        ("dash 1\n", "alpha-one==1.0\nbeta==2.5.post1\ngamma==3\n", "missing: gamma 3"),
        ("dash 1\nbash 5\n", "alpha-one==1.0\nbeta==2.5.post1\n", "missing: bash 5"),
    ],
)
def test_only_what_the_lists_name_passes(
    environment, tmp_path, monkeypatch, capsys, debs, packages, complaint
):
    (tmp_path / "debs.txt").write_text(debs)
    (tmp_path / "packages.txt").write_text(packages)
    # This machine's own packages are not the test's to choose.
    monkeypatch.setattr(inventory, "installed_debs", lambda: {"dash": "1"})
    monkeypatch.setattr(inventory, "BASE_FACTS", tmp_path / "none.json")
    words = ["--environment", str(environment), "--write", str(tmp_path / "inventory.json")]
    words += ["--debs", str(tmp_path / "debs.txt"), "--packages", str(tmp_path / "packages.txt")]
    code = inventory.main(words)
    assert code == (0 if complaint is None else 5)
    assert (tmp_path / "inventory.json").exists() == (complaint is None)
    if complaint:
        assert complaint in capsys.readouterr().err


def test_it_runs_by_itself_as_a_build_step_does():
    command = [sys.executable, "-I", inventory.__file__, "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
