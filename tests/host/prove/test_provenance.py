import json
import re
from dataclasses import replace

import pytest

from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.prove.provenance import statement
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROWS, LOCK = read_matrix(MATRIX_FILE).rows, read_lock(LOCK_FILE)
DIGEST = "sha256:" + "d" * 64


def made(name="rtx-1.7", base="published: debian", **change):
    labels = {"trtyard.content": "0123", "trtyard.base": base}
    locked = replace(LOCK.row(name), **change)
    return statement("example.org/team/image", DIGEST, ROWS[name], locked, labels)


def materials(found):
    return found["predicate"]["buildDefinition"]["resolvedDependencies"]


def test_subject_is_the_image_with_its_parameters():
    found = made()
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [{"name": "example.org/team/image", "digest": {"sha256": "d" * 64}}]
    asked = found["predicate"]["buildDefinition"]["externalParameters"]
    assert asked == {"row": "rtx-1.7", "content": "0123"}


@pytest.mark.parametrize("name", ROWS)
def test_every_file_of_the_lock_is_named_by_its_hash(name):
    row, locked = ROWS[name], LOCK.row(name)
    found = {one["digest"]["sha256"] for one in materials(made(name)) if "sha256" in one["digest"]}
    for one in (*locked.wheels_for(row.python), *locked.sdists_for(row.python), *locked.debs):
        assert one.sha256 in found
    for patch in locked.patches:
        assert patch.sha256 in found
    commits = {one["digest"].get("gitCommit") for one in materials(made(name))} - {None}
    assert commits == set(row.commits.values())


def test_provenance_names_only_a_published_base():
    base = LOCK.row("rtx-1.7").base
    published = {one.get("name"): one["digest"] for one in materials(made())}
    assert f"sha256:{published[base.image]['sha256']}" == base.digest
    assert base.image not in {one.get("name") for one in materials(made(base="local: bookworm"))}


def test_debs_without_a_hash_are_not_materials():
    deb = replace(LOCK.row("rtx-1.7").debs[0], sha256="", size=0, stage="base")
    text = json.dumps(made(debs=(deb,)))
    assert deb.name not in text
    assert not re.search(r'"sha256": ""', text)


def test_the_same_image_gives_the_same_bytes():
    assert json.dumps(made(), sort_keys=True) == json.dumps(made(), sort_keys=True)
