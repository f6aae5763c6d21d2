"""Compare two images in OCI layouts, down to the attributes of each file.

The layers are uncompressed tars, so their digests are the ``diff_ids`` of the configuration
(OCI image specification, config.md). The configuration's digest then identifies every byte of an
image, however its layers are compressed elsewhere.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from trtyard.core.errors import IntegrityError
from trtyard.core.files import sha256_of

_PIECE = 1 << 20
_WHITEOUT = ".wh."  # prefix of a file name: the layer removes that file (layer.md)
_XATTR = "SCHILY.xattr."  # prefix of extended attributes in a tar, such as file capabilities
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MISSING: Any = object()  # equal to no value of a configuration

_Key = tuple[str, bool]  # a path, and whether the layer removes it


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image in a folder; every blob was compared with its digest."""

    folder: Path
    digest: str  # of the configuration
    config: Mapping[str, Any]
    layers: tuple[str, ...]  # digests of the plain tars, lowest first

    def layer(self, digest: str) -> Path:
        """Return a layer's file."""
        return _blob(self.folder, digest)

    @property
    def layer_bytes(self) -> int:
        """Return the size of all layers."""
        return sum(self.layer(digest).stat().st_size for digest in self.layers)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One attribute that differs; its value is None in an image that lacks the file or key."""

    where: str  # config, or layer and its number from 1
    path: str  # of the file, or the key of the configuration; empty for all of it
    attribute: str
    first: str | None
    second: str | None

    def __str__(self) -> str:
        what = f"{self.where}: {self.path}" if self.path else self.where
        if self.second is None:
            return f"{what}: only in the first ({self.attribute} {self.first})"
        if self.first is None:
            return f"{what}: only in the second ({self.attribute} {self.second})"
        return f"{what}: {self.attribute} {self.first} and {self.second}"

    def facts(self) -> dict[str, str | None]:
        """Return the difference as a dictionary for JSON."""
        return asdict(self)


def read_image(folder: Path) -> Image:
    """Return the single image of the layout, after comparing each blob with its digest.

    Raises ``IntegrityError`` if a blob is damaged or missing, or the folder is no OCI layout.
    """
    try:
        listed = json.loads((folder / "index.json").read_text(encoding="utf-8"))["manifests"]
        if len(listed) != 1:
            raise IntegrityError(f"{folder} has {len(listed)} images, expected one")
        manifest = json.loads(_checked(folder, listed[0]["digest"]).read_bytes())
        digest = manifest["config"]["digest"]
        config = json.loads(_checked(folder, digest).read_bytes())
        layers = tuple(layer["digest"] for layer in manifest["layers"])
        named = tuple(config["rootfs"]["diff_ids"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{folder} is not an OCI layout with an image: {error!r}") from None
    for layer in dict.fromkeys(layers):
        _checked(folder, layer)
    if layers != named:
        raise IntegrityError(f"{folder}: the layers do not match the configuration's diff_ids")
    return Image(folder=folder, digest=digest, config=config, layers=layers)


def differences(first: Image, second: Image) -> Iterator[Difference]:
    """Yield every difference; at least one unless both configurations have the same digest."""
    if first.digest == second.digest:
        return
    found = False
    for where in (_in_config, _in_layers):
        for one in where(first, second):
            found = True
            yield one
    if not found:  # the same values, written differently
        yield Difference(
            where="config", path="", attribute="digest", first=first.digest, second=second.digest
        )


def _in_config(first: Image, second: Image) -> Iterator[Difference]:
    yield from _in_values(_without_layers(first.config), _without_layers(second.config), "")


def _without_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "rootfs": {**config["rootfs"], "diff_ids": None}}


def _in_values(first: Any, second: Any, path: str) -> Iterator[Difference]:
    if isinstance(first, dict) and isinstance(second, dict):
        for key in sorted({*first, *second}):
            below = f"{path}.{key}" if path else key
            yield from _in_values(first.get(key, _MISSING), second.get(key, _MISSING), below)
    elif isinstance(first, list) and isinstance(second, list):
        for number, (one, other) in enumerate(zip_longest(first, second, fillvalue=_MISSING)):
            yield from _in_values(one, other, f"{path}[{number}]")
    elif first != second:
        one, other = (
            None if value is _MISSING else json.dumps(value, sort_keys=True)
            for value in (first, second)
        )
        yield Difference(where="config", path=path, attribute="value", first=one, second=other)


def _in_layers(first: Image, second: Image) -> Iterator[Difference]:
    for number, (one, other) in enumerate(zip_longest(first.layers, second.layers), 1):
        if one == other:
            continue
        where = f"layer {number}"
        found = list(_in_files(first, one, second, other, where)) if one and other else []
        yield from found
        if not found:  # too many layers, or the same files in another order
            yield Difference(where=where, path="", attribute="digest", first=one, second=other)


def _in_files(
    first: Image, one: str, second: Image, other: str, where: str
) -> Iterator[Difference]:
    ours, theirs = _members(first.layer(one)), _members(second.layer(other))
    for key in sorted({*ours, *theirs}):
        path, removed = key
        pairs: list[tuple[str, str | None, str | None]]
        if key in ours and key in theirs:
            pairs = [(name, ours[key][name], theirs[key][name]) for name in ours[key]]
        else:
            word = "removed" if removed else "present"
            pairs = [("file", word if key in ours else None, word if key in theirs else None)]
        for attribute, mine, yours in pairs:
            if mine != yours:
                yield Difference(
                    where=where, path=path, attribute=attribute, first=mine, second=yours
                )


def _members(file: Path) -> dict[_Key, dict[str, str]]:
    """Return the attributes of each file in the layer; the last entry of a path counts."""
    found = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                found[_key(member.name)] = {
                    "type": _TYPES.get(member.type, repr(member.type)),
                    "mode": f"{member.mode:04o}",
                    "owner": f"{member.uid}:{member.gid}",
                    # As text: tarfile's float has too few digits.
                    "mtime": member.pax_headers.get("mtime", f"{member.mtime}"),
                    "link": member.linkname or "none",
                    "device": f"{member.devmajor}:{member.devminor}",
                    "xattrs": _xattrs(member),
                    "content": _content(tar, member),
                }
    except tarfile.TarError as error:
        raise IntegrityError(f"{file} is not a tar layer: {error}") from None
    return found


_TYPES = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "character device",
    tarfile.BLKTYPE: "block device",
    tarfile.FIFOTYPE: "pipe",
}


def _key(name: str) -> _Key:
    folder, _, last = f"/{name.removeprefix('./').strip('/')}".rpartition("/")
    return f"{folder}/{last.removeprefix(_WHITEOUT)}", last.startswith(_WHITEOUT)


def _xattrs(member: tarfile.TarInfo) -> str:
    found = [
        f"{name.removeprefix(_XATTR)}={value!r}"
        for name, value in sorted(member.pax_headers.items())
        if name.startswith(_XATTR)
    ]
    return " ".join(found) or "none"


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = tar.extractfile(member) if member.isreg() else None
    if stream is None:
        return "none"
    digest = hashlib.sha256()
    while piece := stream.read(_PIECE):
        digest.update(piece)
    return f"sha256 {digest.hexdigest()[:12]}, {member.size} bytes"


def _checked(folder: Path, digest: str) -> Path:
    file = _blob(folder, digest)
    if not file.is_file():
        raise IntegrityError(f"{folder}: blob {digest} is missing")
    found = sha256_of(file)
    if f"sha256:{found}" != digest:
        raise IntegrityError(f"{folder}: blob {digest} has sha256 {found}")
    return file


def _blob(folder: Path, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):
        raise IntegrityError(f"{folder}: {digest!r} is not a sha256 digest")
    return folder / "blobs" / Path(*digest.split(":"))
