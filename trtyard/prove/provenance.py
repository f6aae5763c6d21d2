"""Provenance of a row's image: an in-toto statement with SLSA's predicate, version 1.

It lists the inputs of the image from this checkout and its lock: every wheel, source and
distribution package by hash, the base by digest, the checkout by content key. It is unsigned: a
claim of the person who pushes. It contains no times or machine names, so pushing the same image
again attaches the same bytes. Fields: in-toto attestation framework's Statement v1, and SLSA v1.0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from trtyard.lock.file import LockedRow
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import CONTENT_LABEL

MEDIA_TYPE = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:trtyard:bake:1"


def statement(
    name: str, digest: str, row: Row, locked: LockedRow, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the statement about the image ``name`` with that digest in a registry.

    Args:
        name: the image's name in the registry, without a tag.
        digest: the digest of its manifest, ``sha256:`` and 64 hex digits.
        row: the row of the image.
        locked: the row's lock, which the image was built from.
        labels: the image's labels.
    """
    return {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest.partition(":")[2]}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"row": row.name, "content": labels[CONTENT_LABEL]},
                "internalParameters": {"base": labels.get("trtyard.base", "")},
                "resolvedDependencies": list(_materials(row, locked, labels)),
            },
            "runDetails": {"builder": {"id": "urn:trtyard:whoever-pushed-it"}},
        },
    }


def _materials(row: Row, locked: LockedRow, labels: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    # A local base consists of the distribution packages below.
    if not labels.get("trtyard.base", "").startswith("local"):
        digest = locked.base.digest.partition(":")[2]
        yield {"name": locked.base.image, "digest": {"sha256": digest}}
    for package in (*locked.wheels_for(row.python), *locked.sdists_for(row.python)):
        yield {"name": package.filename, "digest": {"sha256": package.sha256}}
    for deb in locked.debs:
        if deb.sha256:
            name = f"{deb.name}_{deb.version}_{deb.architecture}"
            yield {"name": name, "digest": {"sha256": deb.sha256}}
    for patch in locked.patches:
        yield {"name": f"patches/{patch.path}", "digest": {"sha256": patch.sha256}}
    for repository, commit in row.commits.items():
        yield {"uri": f"git+https://github.com/{repository}", "digest": {"gitCommit": commit}}
