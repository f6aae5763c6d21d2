import hashlib
import json
import re

import pytest
from validators import validate

from trtyard.core.errors import IntegrityError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.prove.sbom import Contents, Library, document
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROWS = read_matrix(MATRIX_FILE).rows
ROW = ROWS["rtx-1.7"]
SITE = "/opt/trtyard/env/lib/python3.11/site-packages"


@pytest.fixture
def locked():
    return read_lock(LOCK_FILE).row("rtx-1.7")


def version_in(locked, name):
    return next(one for one in (*locked.wheels_for("3.11"), *locked.debs) if one.name == name)


@pytest.fixture
def inventory(locked):
    """Return what an image of two packages and two debs leaves, one deb newer than the lock."""
    library = {"path": f"{SITE}/numpy/x.so", "sha256": "1" * 64, "size": 7, "package": "numpy"}
    return {
        "schema": 2,
        "base": {},
        "debs": {"zlib1g": version_in(locked, "zlib1g").version, "libstdc++6": "999"},
        "packages": {
            name: {"version": version_in(locked, name).version, "record_sha256": "2" * 64}
            for name in ("numpy", "torch")
        },
        "libraries": [library, {"path": f"{SITE}/numpy/y.so", "link": "x.so"}],
    }


@pytest.fixture
def contents(inventory):
    plugin = Library.of("/opt/trtyard/plugins/libtrtyard_plugins.so", b"plugin")
    return Contents.read("trtyard/rtx-1.7:0123", inventory, [plugin])


def by_name(found):
    return {one["name"]: one for one in found["packages"]}


def test_sbom_depends_on_the_contents_only(contents, inventory, locked):
    first = document(contents, locked, ROW)
    reordered = {key: inventory[key] for key in reversed(inventory)}
    reordered["debs"] = dict(reversed(inventory["debs"].items()))
    again = Contents.read("trtyard/rtx-1.7:4567", reordered, contents.plugins)
    assert json.dumps(document(again, locked, ROW)) == json.dumps(first)
    inventory["debs"]["zlib1g"] = "1"
    other = document(
        Contents.read("trtyard/rtx-1.7:0123", inventory, contents.plugins), locked, ROW
    )
    assert other["documentNamespace"] != first["documentNamespace"]
    assert first["creationInfo"]["created"] == "2026-01-01T00:00:00Z"


def test_hash_is_given_only_for_the_locked_version(contents, locked):
    found = by_name(document(contents, locked, ROW))
    for name in ("numpy", "torch", "zlib1g"):
        expected = version_in(locked, name)
        assert found[name]["checksums"] == [
            {"algorithm": "SHA256", "checksumValue": expected.sha256}
        ]
        assert found[name]["versionInfo"] == expected.version
    assert "checksums" not in found["libstdc++6"]
    assert "checksums" not in by_name(document(contents, None, ROW))["numpy"]


def test_packages_and_libraries_are_listed_once(contents, locked):
    made = document(contents, locked, ROW)
    found = by_name(made)
    assert found.keys() == {
        *("trtyard/rtx-1.7", "numpy", "torch", "zlib1g", "libstdc++6"),
        *("x.so", "libtrtyard_plugins.so"),
    }
    ids = [one["SPDXID"] for one in made["packages"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"SPDXRef-[A-Za-z0-9.-]+", one) for one in ids)
    contained = [one for one in made["relationships"] if one["relationshipType"] == "CONTAINS"]
    assert sorted(one["relatedSpdxElement"] for one in contained) == sorted(set(ids) - {ids[0]})
    owner = {one["relatedSpdxElement"]: one["spdxElementId"] for one in contained}
    assert owner[found["x.so"]["SPDXID"]] == found["numpy"]["SPDXID"]
    assert owner[found["libtrtyard_plugins.so"]["SPDXID"]] == ids[0]
    assert found["libtrtyard_plugins.so"]["checksums"][0]["checksumValue"] == (
        hashlib.sha256(b"plugin").hexdigest()
    )


def test_a_package_is_named_by_its_purl(contents, locked):
    found = by_name(document(contents, locked, ROW))
    version = version_in(locked, "zlib1g").version.replace(":", "%3A").replace("+", "%2B")
    assert found["zlib1g"]["externalRefs"][0]["referenceLocator"] == (
        f"pkg:deb/debian/zlib1g@{version}?arch=amd64"
    )
    assert found["numpy"]["externalRefs"][0]["referenceLocator"] == (
        f"pkg:pypi/numpy@{version_in(locked, 'numpy').version}"
    )
    assert "libstdc%2B%2B6@999" in found["libstdc++6"]["externalRefs"][0]["referenceLocator"]


@pytest.mark.parametrize(("row", "distribution"), [("7.0", "ubuntu"), ("rtx-1.7", "debian")])
def test_deb_has_the_rows_distribution(contents, row, distribution):
    found = by_name(document(contents, None, ROWS[row]))
    locator = found["zlib1g"]["externalRefs"][0]["referenceLocator"]
    assert locator.startswith(f"pkg:deb/{distribution}/zlib1g@")


def test_unknown_row_has_no_distribution(contents):
    found = by_name(document(contents, None, None))
    assert "externalRefs" not in found["zlib1g"]
    assert "externalRefs" in found["numpy"]


def test_older_inventory_has_no_libraries(inventory):
    del inventory["libraries"]
    assert Contents.read("x", {**inventory, "schema": 1}, []).libraries is None


@pytest.mark.parametrize(
    "change", [{"schema": 4}, {"debs": []}, {"libraries": [{}]}, {"packages": {"a": 1}}]
)
def test_invalid_inventory_is_reported(inventory, change):
    with pytest.raises(IntegrityError, match="x: this trtyard cannot read the image's inventory"):
        Contents.read("x", {**inventory, **change}, [])
    with pytest.raises(IntegrityError):
        Contents.read("x", [], None)


def test_license_is_declared_or_a_text_reference(inventory, locked):
    inventory["schema"] = 3
    inventory["packages"]["torch"]["license"] = "MIT AND LicenseRef-Own-1.0"
    inventory["packages"]["numpy"]["license_named"] = "BSD; OSI Approved :: BSD License"
    made = document(Contents.read("x", inventory, []), locked, ROW)
    found = by_name(made)
    assert found["torch"]["licenseDeclared"] == "MIT AND LicenseRef-Own-1.0"
    assert found["numpy"]["licenseDeclared"] == "LicenseRef-BSD-OSI-Approved-BSD-License"
    assert "licenseDeclared" not in found["zlib1g"]
    texts = {one["licenseId"]: one["extractedText"] for one in made["hasExtractedLicensingInfos"]}
    assert texts.keys() == {"LicenseRef-Own-1.0", "LicenseRef-BSD-OSI-Approved-BSD-License"}
    assert texts["LicenseRef-BSD-OSI-Approved-BSD-License"].endswith(
        ": BSD; OSI Approved :: BSD License"
    )


@pytest.mark.parametrize("licensed", [True, False])
def test_spdx_tools_accept_the_document(inventory, contents, locked, tmp_path, licensed):
    if licensed:
        inventory["schema"] = 3
        inventory["packages"]["torch"]["license"] = (
            "Apache-2.0 WITH LLVM-exception AND (MIT OR LicenseRef-Own-1.0)"
        )
        inventory["packages"]["numpy"]["license_named"] = "3-Clause BSD License (modified); Ünlike"
        contents = Contents.read(contents.name, inventory, contents.plugins)
    made = document(contents, locked, ROW)
    file = tmp_path / "image.spdx.json"
    file.write_text(json.dumps(made))
    done = validate("pyspdxtools", "-i", file)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    made["packages"][1]["SPDXID"] = "of another form"
    file.write_text(json.dumps(made))
    assert validate("pyspdxtools", "-i", file).returncode != 0
