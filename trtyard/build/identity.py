"""Checks by id, labels and layers that an image is the one that its name stands for.

``docker tag`` can give trtyard's names to any image. So the id of each image that is built or
pulled here is recorded in ``.trtyard/images``, and an image with another id is not used. If no id
is recorded (``docker load``, another checkout on the same engine), the image must have the labels
of this tree, the lower layers of its base, and the last step of the Dockerfile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trtyard.core.files import write_text
from trtyard.system.docker_engine import image_id
from trtyard.system.folders import make_own
from trtyard.system.uv import YARD

if TYPE_CHECKING:
    from docker import DockerClient

_ID_CHARACTERS = 19  # of an id in messages: sha256: and 12 digits, as Docker prints them


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The properties of the image that a name stands for."""

    labels: Mapping[str, str]
    below: Sequence[str] = ()  # DiffIDs of its first layers
    layers: int | None = None  # number of layers
    last_step: str = ""  # start of the builder's text for its last step


def note_id(client: "DockerClient", name: str) -> None:
    """Record the id of the image with this name, after it was built or pulled."""
    found = image_id(client, name)
    file = _note(client, name)
    if found is not None and noted_id(client, name) != found:
        make_own(YARD)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, f"{found}\n")


def noted_id(client: "DockerClient", name: str) -> str | None:
    """Return the recorded id for the name, or None."""
    file = _note(client, name)
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def problem_of(client: "DockerClient", name: str, expected: Expected) -> str | None:
    """Return why the image is not the one that its name stands for, or None if it is.

    Raises ``ImageNotFound`` if no image has the name.
    """
    image, noted = client.images.get(name), noted_id(client, name)
    if noted is not None:
        if image.id == noted:
            return None
        found_id, noted_short = str(image.id)[:_ID_CHARACTERS], noted[:_ID_CHARACTERS]
        return f"{name} is image {found_id}, but the image made here was {noted_short}"
    for label, value in expected.labels.items():
        if image.labels.get(label) != value:
            found = image.labels.get(label, "none")
            return f"{name} is a different image: its label {label} is {found}, not {value}"
    layers = list(image.attrs["RootFS"].get("Layers") or ())
    if layers[: len(expected.below)] != list(expected.below):
        return f"{name} is a different image: it was not built on its base"
    if expected.layers is not None and len(layers) != expected.layers:
        return f"{name} is a different image: it has {len(layers)} layers, not {expected.layers}"
    step = " ".join(str(image.history()[0]["CreatedBy"]).split())
    if not step.startswith(expected.last_step):
        return f"{name} is a different image: its last step is {step!r}"
    return None


def _note(client: "DockerClient", name: str) -> Path:
    # Engines give the same image different ids.
    engine = "".join(one for one in str(client.info().get("ID", "")) if one.isalnum() or one in "-")
    return YARD / "images" / (engine or "engine") / name.replace("/", "+").replace(":", "=")
