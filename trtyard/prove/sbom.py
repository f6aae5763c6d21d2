"""Bill of materials: SPDX 2.3 as JSON, from an image's inventory and the lock's hashes.

The same contents give the same bytes: the time is that of the image's files, and the name is the
hash of the document's content. Licenses are those that Python packages declare. Fields: the SPDX
2.3 specification. Native libraries are listed as packages, not files: an SPDX file needs a SHA1,
and wheels' RECORD files have none.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from trtyard.core.errors import IntegrityError
from trtyard.core.inventory import LICENSE_REF, SCHEMA, License
from trtyard.lock.file import LockedRow
from trtyard.matrix.compatibility import SUITES
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import SOURCE_DATE_EPOCH

MEDIA_TYPE = "application/spdx+json"
NAMESPACE = "https://spdx.org/spdxdocs/trtyard"
_SCHEMAS = range(1, SCHEMA + 1)
_ROOT = "SPDXRef-image"


@dataclass(frozen=True, kw_only=True)
class Library:
    """A shared library: path in the image, hash, size in bytes, and the Python package it is in."""

    path: str
    sha256: str
    size: int
    package: str = ""

    @classmethod
    def of(cls, path: str, content: bytes) -> "Library":
        """Return a library that belongs to no Python package."""
        return cls(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of an image, from its inventory."""

    name: str  # of the image
    debs: Mapping[str, str]
    packages: Mapping[str, str]
    libraries: tuple[Library, ...] | None  # None: an older inventory lists none
    plugins: tuple[Library, ...]
    licenses: Mapping[str, License] = field(default_factory=dict)  # of Python packages, by name

    @classmethod
    def read(cls, name: str, inventory: Any, plugins: Iterable[Library]) -> "Contents":
        """Return the contents that an inventory lists; ``IntegrityError`` if it cannot be read."""
        try:
            if inventory["schema"] not in _SCHEMAS:
                raise ValueError(f"schema {inventory['schema']}")
            listed = inventory["libraries"] if inventory["schema"] > 1 else None
            libraries = None
            if listed is not None:
                libraries = tuple(
                    Library(
                        path=str(one["path"]),
                        sha256=str(one.get("sha256", "")),
                        size=int(one["size"]),
                        package=str(one["package"]),
                    )
                    for one in listed
                    if "link" not in one
                )
            return cls(
                name=name,
                debs=dict(sorted(inventory["debs"].items())),
                packages={
                    key: str(facts["version"])
                    for key, facts in sorted(inventory["packages"].items())
                },
                libraries=libraries,
                plugins=tuple(plugins),
                licenses={
                    key: License(str(facts.get("license", "")), str(facts.get("license_named", "")))
                    for key, facts in inventory["packages"].items()
                },
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise IntegrityError(
                f"{name}: this trtyard cannot read the image's inventory: {error!r}",
                "build it again: ./run build",
            ) from None


def document(contents: Contents, locked: LockedRow | None, row: Row | None) -> dict[str, Any]:
    """Return the SPDX document of an image.

    Args:
        contents: of the image.
        locked: the row's lock. Packages whose version is the locked one get the locked hash.
        row: the image's row; None if versions.toml does not have it. Then the distribution is
            unknown, and its packages get no purl.
    """
    # A version has a wheel for each Python release.
    files = _hashes(locked, row.python if row else "")
    place = f"deb/{SUITES[row.base.suite][0]}" if row else ""
    packages = [_package("deb", place, *one, files) for one in contents.debs.items()]
    texts: dict[str, str] = {}
    for name, version in contents.packages.items():
        entry = _package("pypi", "pypi", name, version, files)
        declared, named = _declared(contents.licenses.get(name, License("", "")))
        packages.append({**entry, "licenseDeclared": declared} if declared else entry)
        texts |= named
    libraries = [*(contents.libraries or ()), *contents.plugins]
    # Without the tag: all tags of the same contents give the same document.
    root = {
        "SPDXID": _ROOT,
        "name": re.sub(r":[^:/]+$", "", contents.name),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
    }
    relationships = [_related("SPDXRef-DOCUMENT", "DESCRIBES", _ROOT)]
    relationships += [_related(_ROOT, "CONTAINS", one["SPDXID"]) for one in packages]
    for one in libraries:
        entry = _library(one)
        packages.append(entry)
        owner = _id("pypi", one.package) if one.package else _ROOT
        relationships.append(_related(owner, "CONTAINS", entry["SPDXID"]))
    body: dict[str, Any] = {"packages": [root, *packages], "relationships": relationships}
    if texts:
        body["hasExtractedLicensingInfos"] = [
            {"licenseId": one, "extractedText": text} for one, text in sorted(texts.items())
        ]
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    created = datetime.fromtimestamp(SOURCE_DATE_EPOCH, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": root["name"],
        "documentNamespace": f"{NAMESPACE}/{digest}",
        "creationInfo": {"created": created, "creators": ["Tool: trtyard"]},
        **body,
    }


def _hashes(locked: LockedRow | None, python: str) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Return sha256 and architecture by kind, name and version, if only one locked file matches."""
    found: dict[tuple[str, str, str], set[tuple[str, str]]] = {}
    if locked is not None:
        for wheel in (*locked.wheels_for(python), *locked.sdists_for(python)):
            found.setdefault(("pypi", wheel.name, wheel.version), set()).add((wheel.sha256, ""))
        for deb in locked.debs:
            key = ("deb", deb.name, deb.version)
            found.setdefault(key, set()).add((deb.sha256, deb.architecture))
    return {key: next(iter(several)) for key, several in found.items() if len(several) == 1}


def _package(
    kind: str,
    place: str,
    name: str,
    version: str,
    files: Mapping[tuple[str, str, str], tuple[str, str]],
) -> dict[str, Any]:
    sha256, architecture = files.get((kind, name, version), ("", ""))
    locator = f"pkg:{place}/{quote(name, safe='')}@{quote(version, safe='')}"
    if architecture:
        locator += f"?arch={architecture}"
    entry: dict[str, Any] = {
        "SPDXID": _id(kind, name),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
    }
    if place:
        entry["externalRefs"] = [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": locator,
            }
        ]
    if sha256:
        entry["checksums"] = [{"algorithm": "SHA256", "checksumValue": sha256}]
    return entry


def _declared(found: License) -> tuple[str, dict[str, str]]:
    """Return a license's SPDX expression, and the text for each LicenseRef in it.

    A name that is no SPDX identifier becomes a LicenseRef; the license is never guessed.
    """
    text = "Declared in the package's metadata; its text is in the package's files: "
    if found.expression:
        references = re.findall(rf"{LICENSE_REF}[A-Za-z0-9.-]+", found.expression)
        return found.expression, {one: text + one for one in references}
    if found.named:
        reference = LICENSE_REF + re.sub(r"[^A-Za-z0-9.]+", "-", found.named).strip("-")
        return reference, {reference: text + found.named}
    return "", {}


def _library(library: Library) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-library-{hashlib.sha256(library.path.encode()).hexdigest()[:16]}",
        "name": library.path.rpartition("/")[2],
        "packageFileName": library.path,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "LIBRARY",
        "checksums": [{"algorithm": "SHA256", "checksumValue": library.sha256}],
    }


def _id(kind: str, name: str) -> str:
    # SPDX allows letters, digits, dot and minus; others, such as the plus in g++, are encoded.
    return f"SPDXRef-{kind}-" + re.sub(r"[^A-Za-z0-9.-]", lambda one: f"-x{ord(one[0]):x}-", name)


def _related(one: str, how: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": how, "relatedSpdxElement": other}
