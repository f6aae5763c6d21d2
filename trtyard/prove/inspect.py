"""``inspect``: what an image holds, read from its files and its configuration; none of it is run.

Layers are compared by DiffID (OCI image specification, config.md), the hash of the plain tar, so
what two images share is told whatever registry or builder they came from.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trtyard.build.build import built_image, checked_stage, refuse_other_images
from trtyard.build.identity import noted_id
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.plugins.compile_plugins import (
    LIBRARY_NAME,
    SHELL_LIBRARY_NAME,
    SHELL_LIBRARY_NAME_V2,
)
from trtyard.lock.file import read_lock
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.prove.sbom import Contents, Library, document
from trtyard.render.dockerfiles import INVENTORY_PATH, PLUGINS_PATH
from trtyard.system.docker_engine import connect, image_id, made_container
from trtyard.system.terminal import show
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

if TYPE_CHECKING:
    from docker import DockerClient

OURS = "trtyard/"
PLUGIN_LIBRARIES = (LIBRARY_NAME, SHELL_LIBRARY_NAME_V2, SHELL_LIBRARY_NAME)
_MEGA = 1_000_000
_SHOWN_LIBRARIES = 10


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of an image."""

    diff_id: str
    size: int | None  # bytes unpacked; None where the engine does not tell layers from settings
    step: str  # what made it, in the builder's words
    shared_with: tuple[str, ...]  # trtyard's other images here that have it


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What an image holds."""

    image: str
    id: str
    made_here: str | None  # the id that was noted of the name, see images/identity.py
    labels: Mapping[str, str]
    contents: Contents
    layers: tuple[Layer, ...]

    @property
    def unique_bytes(self) -> int | None:
        """Return what no other image of trtyard here has."""
        sizes = [layer.size for layer in self.layers if not layer.shared_with]
        return None if None in sizes else sum(size or 0 for size in sizes)


def show_image(
    row_name: str, *, target: str, image: str = "", as_json: bool = False, sbom: bool = False
) -> None:
    """Print what the row's image, or the one named, holds.

    ``EnvironmentLacksError`` where it is not here or is none of trtyard's, ``IntegrityError``
    where its plugins are not what was compiled for it.
    """
    client = connect()
    name = image or _image_of(client, row_name, target)
    found = inspect(client, name)
    if sbom:
        show(json.dumps(bill_of(found), indent=2, sort_keys=True))
    elif as_json:
        facts = {"schema": 2, **asdict(found), "unique_bytes": found.unique_bytes}
        show(json.dumps(facts, indent=2, sort_keys=True))
    else:
        show("\n".join(_lines(found)))


def inspect(client: "DockerClient", name: str) -> Inspected:
    """Read an image that is here: its inventory, its plugins, its layers."""
    if image_id(client, name) is None:
        raise EnvironmentLacksError(
            f"there is no image {name} here", "./run build, or: docker pull"
        )
    image = client.images.get(name)
    return Inspected(
        image=name,
        id=str(image.id),
        made_here=noted_id(client, name),
        labels=dict(sorted(image.labels.items())),
        contents=_contents(client, name),
        layers=layers_of(client, name),
    )


def holdings(client: "DockerClient", name: str) -> str:
    """Return in a line what an image holds by its inventory, which the lock was compared with."""
    contents = _contents(client, name)
    libraries = "" if contents.libraries is None else f", {len(contents.libraries)} libraries"
    return (
        f"{len(contents.debs)} debs, {len(contents.packages)} packages{libraries},"
        f" {len(contents.plugins)} of plugins"
    )


def bill_of(found: Inspected) -> dict[str, Any]:
    """Return the image's SPDX document, with the lock's hashes where it was built by this lock."""
    name = found.labels.get("trtyard.row", "")
    row, locked = read_matrix(MATRIX_FILE).rows.get(name), read_lock(LOCK_FILE).rows.get(name)
    same = locked is not None and locked.matrix_sha256 == found.labels.get("trtyard.lock")
    return document(found.contents, locked if same else None, row)


def layers_of(client: "DockerClient", name: str) -> tuple[Layer, ...]:
    """Return the layers, lowest first, each with trtyard's other images here that have it."""
    from docker.errors import ImageNotFound

    image = client.images.get(name)
    others: dict[str, list[str]] = {}
    for listed in client.api.images():
        names = sorted(tag for tag in listed["RepoTags"] or () if tag.startswith(OURS))
        if names and listed["Id"] != image.id:
            with suppress(ImageNotFound):  # removed meanwhile
                for diff_id in client.api.inspect_image(listed["Id"])["RootFS"].get("Layers") or ():
                    others.setdefault(diff_id, []).append(names[0])
    diff_ids = image.attrs["RootFS"].get("Layers") or []
    # The history also has a step for each setting; those take no bytes.
    steps = [step for step in reversed(image.history()) if step["Size"]]
    known = len(steps) == len(diff_ids)
    return tuple(
        Layer(
            diff_id=diff_id,
            size=int(steps[number]["Size"]) if known else None,
            step=" ".join(steps[number]["CreatedBy"].split()) if known else "",
            shared_with=tuple(sorted(set(others.get(diff_id, ())))),
        )
        for number, diff_id in enumerate(diff_ids)
    )


def _image_of(client: "DockerClient", row_name: str, target: str) -> str:
    row, locked = row_and_lock(row_name)
    name = built_image(client, row, locked, checked_stage(row, target))
    if name is None:
        refuse_other_images(client, row, locked, checked_stage(row, target))
        raise EnvironmentLacksError(
            f"the {target} image of row {row.name} is not built as this tree has it",
            f"./run build --trt {row.name} --target {target}   or name another: --image NAME",
        )
    return name


def _contents(client: "DockerClient", name: str) -> Contents:
    plugins = []
    with _not_started(client, name) as read:
        text = read(INVENTORY_PATH)
        if text is None:
            raise EnvironmentLacksError(
                f"{name} is no image of trtyard: it has no {INVENTORY_PATH}",
                "docker image ls 'trtyard/*'   lists those that are",
            )
        for library in PLUGIN_LIBRARIES:
            path = f"{PLUGINS_PATH}/{library}"
            content = read(path)
            if content is not None:
                plugins.append(_as_noted(name, Library.of(path, content), read(f"{path}.json")))
    return Contents.read(name, json.loads(text), plugins)


def _as_noted(image: str, plugin: Library, note: bytes | None) -> Library:
    """Return the library if it is what was compiled, by the note beside it."""
    expected = json.loads(note)["sha256"] if note else "none"
    if plugin.sha256 != expected:
        raise IntegrityError(
            f"{image}: {plugin.path} expects sha256 {expected}, found {plugin.sha256}",
            "do not use it; build it anew: ./run build --no-cache",
        )
    return plugin


@contextmanager
def _not_started(client: "DockerClient", name: str) -> Iterator[Any]:
    """Give a function that reads a file of the image, None where it is not there."""
    from docker.errors import NotFound

    with made_container(client, name, network_mode="none") as container:

        def read(path: str) -> bytes | None:
            try:
                pieces, _ = container.get_archive(path)
            except NotFound:
                return None
            with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
                member = next(iter(tar))
                stream = tar.extractfile(member) if member.isreg() else None
                return stream.read() if stream else None

        yield read


def _lines(found: Inspected) -> Iterator[str]:
    contents = found.contents
    yield f"{found.image}   {found.id}"
    if found.made_here not in (None, found.id):
        yield f"  identity   another image: the one made here under this name was {found.made_here}"
    yield f"  row        {found.labels.get('trtyard.row', 'unknown')}"
    yield f"  base       {found.labels.get('trtyard.base', 'unknown')}"
    yield f"  debs       {len(contents.debs)}"
    yield f"  packages   {len(contents.packages)}"
    yield from (f"    {name} {version}" for name, version in contents.packages.items())
    if contents.libraries is None:
        yield "  libraries  not listed: the image is of an older trtyard"
    else:
        size = sum(one.size for one in contents.libraries)
        yield f"  libraries  {len(contents.libraries)}, {size / _MEGA:.1f} MB; the largest:"
        largest = sorted(contents.libraries, key=lambda one: -one.size)
        for one in largest[:_SHOWN_LIBRARIES]:
            yield f"    {one.size / _MEGA:9.1f} MB  {one.sha256[:12]}  {one.path}"
    for plugin in contents.plugins:
        yield f"  plugins    {plugin.sha256}  {plugin.path}"
    yield f"  layers     {len(found.layers)}, lowest first"
    for layer in found.layers:
        size_text = f"{layer.size / _MEGA:9.1f} MB" if layer.size is not None else "size unknown"
        shared = f"also in {', '.join(layer.shared_with)}" if layer.shared_with else "only here"
        yield f"    {size_text}  {layer.diff_id[7:19]}  {shared}"
    if found.unique_bytes is not None:
        yield f"  unique     {found.unique_bytes / _MEGA:.1f} MB that no other image here has"
