"""Two builds' OCI layouts, compared down to the file that differs."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from trtyard.pipeline.errors import IntegrityError

_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Layout:
    """An image in a folder, its layers as plain tars."""

    folder: Path
    manifest: str
    config: str
    layers: tuple[str, ...]

    def blob(self, digest: str) -> Path:
        """Return the file that holds what the digest names."""
        return self.folder / "blobs" / Path(*digest.split(":"))


def read_layout(folder: Path) -> Layout:
    """Read the one image of an OCI layout; ``IntegrityError`` where it holds another number."""
    manifests = json.loads((folder / "index.json").read_text(encoding="utf-8"))["manifests"]
    if len(manifests) != 1:
        raise IntegrityError(f"{folder} holds {len(manifests)} images instead of one")
    digest = manifests[0]["digest"]
    file = folder / "blobs" / Path(*digest.split(":"))
    manifest = json.loads(file.read_text(encoding="utf-8"))
    layers = tuple(layer["digest"] for layer in manifest["layers"])
    config = manifest["config"]["digest"]
    return Layout(folder=folder, manifest=digest, config=config, layers=layers)


def differences(first: Layout, second: Layout) -> Iterator[str]:
    """Say of each part that differs which it is, and of a layer which files; nothing if equal."""
    if first.config != second.config:
        yield f"config: {first.config} and {second.config}"
    if first.manifest != second.manifest:
        yield f"manifest: {first.manifest} and {second.manifest}"
    for number, (one, other) in enumerate(zip_longest(first.layers, second.layers), 1):
        if one == other:
            continue
        yield f"layer {number}: {one} and {other}"
        if one and other:
            files = list(_differing_files(first.blob(one), second.blob(other)))
            yield from files or ["  the same files, in another order or with other headers"]


def _differing_files(first: Path, second: Path) -> Iterator[str]:
    ours, theirs = _members(first), _members(second)
    for name in sorted({*ours, *theirs}):
        if name not in theirs:
            yield f"  /{name}: only in the first"
        elif name not in ours:
            yield f"  /{name}: only in the second"
        else:
            one, other = ours[name], theirs[name]
            facts = [f"{key} {one[key]} and {other[key]}" for key in one if one[key] != other[key]]
            if facts:
                yield f"  /{name}: {', '.join(facts)}"


def _members(file: Path) -> dict[str, dict[str, Any]]:
    found = {}
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            found[member.name.removeprefix("./").strip("/")] = {
                "type": member.type.decode(),
                "mode": oct(member.mode),
                "owner": f"{member.uid}:{member.gid}",
                "mtime": member.mtime,
                "size": member.size,
                "link": member.linkname,
                "sha256": _sha256(tar, member),
            }
    return found


def _sha256(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is None:
        return ""
    digest = hashlib.sha256()
    while piece := stream.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
