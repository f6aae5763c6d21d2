import base64
import hashlib
import json
import subprocess
import sys
from email.parser import HeaderParser

import pytest

from trtyard.core import inventory
from trtyard.core.inventory import (
    Difference,
    Recorded,
    compare,
    installed_packages,
    license_of,
    native_libraries,
    read_debs,
    read_record,
    read_requirements,
    recorded_files,
    unrecorded_files,
    verified,
    with_patches,
    without_declared,
)


def test_compare_finds_missing_extra_and_changed_packages():
    expected = {"same": "1", "gone": "2", "changed": "3"}
    found = {"same": "1", "changed": "4", "extra": "5"}
    assert compare(expected, found) == [
        Difference("changed", "3", "4"),
        Difference("extra", "", "5"),
        Difference("gone", "2", ""),
    ]
    assert compare(expected, dict(expected)) == []


def test_each_kind_of_difference_has_its_text():
    assert str(Difference("a", "1", "")) == "missing: a 1"
    assert str(Difference("a", "", "2")) == "extra: a 2"
    assert str(Difference("a", "1", "2")) == "other version: a 2, expected 1"


def test_local_base_may_declare_versions_only():
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


def line_of(path, content, algorithm="sha256"):
    digest = base64.urlsafe_b64encode(hashlib.new(algorithm, content).digest())
    return f"{path},{algorithm}={digest.decode().rstrip('=')},{len(content)}\n"


@pytest.fixture
def environment(tmp_path):
    """Return an environment of two packages, as installers leave them."""
    for name, version in (("Alpha_One", "1.0"), ("beta", "2.5.post1")):
        folder = tmp_path / "lib/python3.11/site-packages" / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: other\n"
        (folder / "METADATA").write_text(metadata)
        files = {
            f"{name}/__init__.py": name.encode(),
            f"{name}/lib{name}.so.1.2": name.encode() * 3,
            f'"{name}/with, a comma.txt"': b"",
            f"../../../bin/{name}": b"#!",
        }
        record = "".join(line_of(path, content) for path, content in files.items())
        record += f"{folder.name}/RECORD,,\n{folder.name}/METADATA,,\n{name}/__pycache__/x.pyc,,\n"
        (folder / "RECORD").write_text(record)
        for path, content in files.items():
            file = folder.parent / path.strip('"')
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return tmp_path


@pytest.fixture
def site(environment):
    return environment / "lib/python3.11/site-packages"


def test_installed_packages_are_found_by_their_normalised_names(environment):
    found = installed_packages(environment)
    assert {name: facts["version"] for name, facts in found.items()} == {
        "alpha-one": "1.0",
        "beta": "2.5.post1",
    }
    assert len({facts["record_sha256"] for facts in found.values()}) == 2


def test_record_format_is_read(environment, site):
    found = read_record("beta", site / "beta-2.5.post1.dist-info")
    assert [one.path.relative_to(environment).as_posix() for one in found] == [
        "lib/python3.11/site-packages/beta/__init__.py",
        "lib/python3.11/site-packages/beta/libbeta.so.1.2",
        "lib/python3.11/site-packages/beta/with, a comma.txt",
        "bin/beta",
    ]
    assert found[0].expected == "sha256=" + hashlib.sha256(b"beta").hexdigest()


def test_files_that_differ_from_record_are_named(environment, site):
    files = recorded_files(environment)
    assert len(files) == 8
    assert verified(files) == []
    (site / "beta/__init__.py").write_bytes(b"gamma")
    (environment / "bin/Alpha_One").unlink()
    first, second = verified(files)
    assert (first.package, first.path) == ("alpha-one", str(environment / "bin/Alpha_One"))
    assert (first.expected, first.found) == (
        "sha256=" + hashlib.sha256(b"#!").hexdigest(),
        "none (No such file or directory)",
    )
    assert str(second) == (
        f"damaged: beta: {site / 'beta/__init__.py'}:"
        f" expected sha256={hashlib.sha256(b'beta').hexdigest()},"
        f" found sha256={hashlib.sha256(b'gamma').hexdigest()}"
    )


def test_patched_file_is_checked_against_the_patch(environment, site):
    patched = ["beta/__init__.py=" + hashlib.sha256(b"patched").hexdigest()]
    files = with_patches(recorded_files(environment), patched)
    assert [one.path for one in verified(files)] == [str(site / "beta/__init__.py")]
    (site / "beta/__init__.py").write_bytes(b"patched")
    assert verified(files) == []
    assert len(verified(recorded_files(environment))) == 1
    with pytest.raises(ValueError, match=r"belongs to no package: beta/none\.py"):
        with_patches(recorded_files(environment), ["beta/none.py=00"])


def test_shared_path_may_match_either_package(tmp_path):
    file = tmp_path / "shared.py"
    hashes = [f"sha256={hashlib.sha256(text).hexdigest()}" for text in (b"one", b"two")]
    files = [Recorded(name, file, code) for name, code in zip("ab", hashes, strict=True)]
    for content, damaged in ((b"one", []), (b"two", []), (b"three", ["a", "b"])):
        file.write_bytes(content)
        assert [one.package for one in verified(files)] == damaged


@pytest.mark.parametrize("algorithm", ["sha512", "md5"])
def test_weak_hash_is_not_accepted(tmp_path, algorithm):
    (tmp_path / "file").write_bytes(b"x")
    code = f"{algorithm}={hashlib.new(algorithm, b'x').hexdigest()}"
    found = verified([Recorded("a", tmp_path / "file", code)])
    assert [one.found for one in found] == (
        ["unsupported hash algorithm: md5"] if algorithm == "md5" else []
    )


def test_native_libraries_are_listed_with_hash_size_and_package(environment, site):
    (site / "beta/libbeta.so").symlink_to("libbeta.so.1.2")
    (site / "beta/not.so.txt").write_text("")
    found = native_libraries(environment, recorded_files(environment))
    assert found == [
        {
            "path": str(site / "Alpha_One/libAlpha_One.so.1.2"),
            "sha256": hashlib.sha256(b"Alpha_One" * 3).hexdigest(),
            "size": 27,
            "package": "alpha-one",
        },
        {"path": str(site / "beta/libbeta.so"), "link": "libbeta.so.1.2"},
        {
            "path": str(site / "beta/libbeta.so.1.2"),
            "sha256": hashlib.sha256(b"beta" * 3).hexdigest(),
            "size": 12,
            "package": "beta",
        },
    ]


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("beta/__init__.py", "damaged: beta: "),
        ("beta/libnew.so", "extra: "),
        ("beta/new.py", "extra: "),
        ("new.pth", "extra: "),
        ("beta/__pycache__/new.cpython-311.pyc", "extra: "),
        ("beta/__pycache__/__init__.cpython-311.pyc", None),
        ("_virtualenv.pth", None),
    ],
)
def test_damaged_or_unowned_file_fails_the_build(
    environment, site, tmp_path, monkeypatch, capsys, file, complaint
):
    (site / file).parent.mkdir(exist_ok=True)
    (site / file).write_bytes(b"other")
    (site / "beta/link.so").symlink_to("libbeta.so.1.2")
    (tmp_path / "debs.txt").write_text("dash 1\n")
    (tmp_path / "packages.txt").write_text("alpha-one==1.0\nbeta==2.5.post1\n")
    monkeypatch.setattr(inventory, "installed_debs", lambda: {"dash": "1"})
    monkeypatch.setattr(inventory, "BASE_FACTS", tmp_path / "none.json")
    written = tmp_path / "inventory.json"
    words = ["--environment", str(environment), "--write", str(written)]
    words += ["--debs", str(tmp_path / "debs.txt"), "--packages", str(tmp_path / "packages.txt")]
    code = inventory.main(words)
    assert code == (0 if complaint is None else 5)
    assert written.exists() == (complaint is None)
    if complaint is None:
        content = json.loads(written.read_text())
        assert content["schema"] == 3
        packages = [one["package"] for one in content["libraries"] if "link" not in one]
        assert packages == ["alpha-one", "beta"]
    else:
        said = capsys.readouterr().err
        assert complaint in said
        assert file in said
        assert hashlib.sha256(b"other").hexdigest() in said


@pytest.mark.parametrize(
    ("fields", "expression", "named"),
    [
        ("License-Expression: MIT OR LicenseRef-X\nLicense: other", "MIT OR LicenseRef-X", ""),
        ("License: LicenseRef-X\nClassifier: License :: Other", "LicenseRef-X", ""),
        ("License-Expression: MIT, perhaps\nLicense: Apache 2.0", "", "Apache 2.0"),
        ("License: BSD\nClassifier: Topic :: X\nClassifier: License :: B", "", "BSD; B"),
        ("License: UNKNOWN\nClassifier: License :: OSI Approved", "", "OSI Approved"),
        ("License: Copyright (c) 2005\n        All rights reserved.", "", ""),
        (f"License: {'long ' * 20}", "", ""),
        ("License: ", "", ""),
        ("Summary: none", "", ""),
    ],
)
def test_license_is_an_expression_or_free_text(fields, expression, named):
    said = HeaderParser().parsestr(f"Name: x\n{fields}\n\nLicense: of the description")
    assert license_of(said) == (expression, named)


def test_inventory_has_declared_licenses(environment, site):
    said = "Name: beta\nVersion: 2.5.post1\nLicense-Expression: MIT\n\nText\n"
    (site / "beta-2.5.post1.dist-info/METADATA").write_text(said)
    found = installed_packages(environment)
    assert found["beta"]["license"] == "MIT"
    assert {"license", "license_named"}.isdisjoint(found["alpha-one"])


def test_link_outside_the_packages_has_no_package(environment, site, tmp_path):
    (tmp_path / "elsewhere.py").touch()
    (site / "beta/away.py").symlink_to(tmp_path / "elsewhere.py")
    assert unrecorded_files(environment) == [str(site / "beta/away.py")]


@pytest.mark.parametrize(
    ("debs", "packages", "complaint"),
    [
        ("dash 1\n", "alpha-one==1.0\nbeta==2.5.post1\n", None),
        ("dash 2\n", "alpha-one==1.0\nbeta==2.5.post1\n", "other version: dash 1, expected 2"),
        ("dash 1\n", "alpha-one==1.0\n", "extra: beta 2.5.post1"),
        ("dash 1\n", "alpha-one==1.0\nbeta==2.5.post1\ngamma==3\n", "missing: gamma 3"),
        ("dash 1\nbash 5\n", "alpha-one==1.0\nbeta==2.5.post1\n", "missing: bash 5"),
    ],
)
def test_only_listed_packages_pass(
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


def test_inventory_runs_as_a_script():
    command = [sys.executable, "-I", inventory.__file__, "--help"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
