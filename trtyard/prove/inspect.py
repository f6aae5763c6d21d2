"""``inspect``: show the contents of an image from its files and configuration, without running it.

Layers are compared by DiffID, the hash of the uncompressed tar (OCI image specification,
config.md): it does not depend on the registry or builder an image came from.
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trtyard.build.build import checked_stage, needed_image
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
    size: int | None  # bytes uncompressed; None if the history does not match the layers
    step: str  # the build step that made it
    shared_with: tuple[str, ...]  # other local trtyard images that have it


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """The contents of an image."""

    image: str
    id: str
    made_here: str | None  # the id recorded for this name, see trtyard/build/identity.py
    labels: Mapping[str, str]
    contents: Contents
    layers: tuple[Layer, ...]

    @property
    def unique_bytes(self) -> int | None:
        """Return the bytes of layers that no other local trtyard image has; None if unknown."""
        sizes = [layer.size for layer in self.layers if not layer.shared_with]
        return None if None in sizes else sum(size or 0 for size in sizes)


def show_image(
    row_name: str, *, target: str, image: str = "", as_json: bool = False, sbom: bool = False
) -> None:
    """Print the contents of the row's image, or of ``image``.

    Raises ``EnvironmentLacksError`` if there is no such local image or trtyard did not build it,
    ``IntegrityError`` if a plugin library was changed after it was compiled.
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
    """Return the inventory, plugins and layers of a local image."""
    if image_id(client, name) is None:
        raise EnvironmentLacksError(
            f"image {name} not found", f"./run build, or: docker pull {name}"
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
    """Return one line with the numbers of packages, libraries and plugins in an image."""
    contents = _contents(client, name)
    libraries = "" if contents.libraries is None else f", {len(contents.libraries)} libraries"
    return (
        f"{len(contents.debs)} debs, {len(contents.packages)} packages{libraries},"
        f" {len(contents.plugins)} plugin libraries"
    )


def bill_of(found: Inspected) -> dict[str, Any]:
    """Return the image's SPDX document, with hashes if the image was built from this lock."""
    name = found.labels.get("trtyard.row", "")
    row, locked = read_matrix(MATRIX_FILE).rows.get(name), read_lock(LOCK_FILE).rows.get(name)
    same = locked is not None and locked.matrix_sha256 == found.labels.get("trtyard.lock")
    return document(found.contents, locked if same else None, row)


def layers_of(client: "DockerClient", name: str) -> tuple[Layer, ...]:
    """Return the layers, lowest first, each with the other local trtyard images that have it."""
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
    # The history also has steps without a layer, such as ENV; their size is 0.
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
    other = "   or give another: --image NAME"
    return needed_image(client, row, locked, checked_stage(row, target), instead=other)


def _contents(client: "DockerClient", name: str) -> Contents:
    plugins = []
    with _not_started(client, name) as read:
        text = read(INVENTORY_PATH)
        if text is None:
            raise EnvironmentLacksError(
                f"{name} is not a trtyard image: it has no {INVENTORY_PATH}",
                "list them: docker image ls 'trtyard/*'",
            )
        for library in PLUGIN_LIBRARIES:
            path = f"{PLUGINS_PATH}/{library}"
            content = read(path)
            if content is not None:
                plugins.append(_as_noted(name, Library.of(path, content), read(f"{path}.json")))
    return Contents.read(name, json.loads(text), plugins)


def _as_noted(image: str, plugin: Library, note: bytes | None) -> Library:
    """Return the library if its hash is the one in ``note``, the JSON file of its compilation."""
    expected = json.loads(note)["sha256"] if note else "none"
    if plugin.sha256 != expected:
        raise IntegrityError(
            f"{image}: {plugin.path}: expected sha256 {expected}, found {plugin.sha256}",
            "do not use it; build it again: ./run build --no-cache",
        )
    return plugin


@contextmanager
def _not_started(client: "DockerClient", name: str) -> Iterator[Any]:
    """Yield a function that returns the bytes of a file in the image, or None without the file.

    The container is created but never started.
    """
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
        yield f"  identity   replaced: ./run build made {found.made_here} under this name"
    yield f"  row        {found.labels.get('trtyard.row', 'unknown')}"
    yield f"  base       {found.labels.get('trtyard.base', 'unknown')}"
    yield f"  debs       {len(contents.debs)}"
    yield f"  packages   {len(contents.packages)}"
    yield from (f"    {name} {version}" for name, version in contents.packages.items())
    if contents.libraries is None:
        yield "  libraries  not listed: an older trtyard built the image"
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
        yield f"  unique     {found.unique_bytes / _MEGA:.1f} MB not shared with other local images"
