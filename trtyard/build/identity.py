"""Whether an image here is the one that its name promises: by its id, its labels and its layers.

Anyone can give a name of trtyard's to another image (``docker tag``), or build one on top under the
same name. So the id of what is built, made or pulled here is noted in ``.trtyard/images``, and an
image of another id under that name is not used. Of one that came here otherwise (``docker load``,
another checkout on the same engine) the labels must be this tree's, its lower layers those of its
base, and its last step the Dockerfile's.
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

_SHOWN = 19  # characters of an id: sha256: and the 12 digits that Docker shows


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an image of a name has, whoever built it."""

    labels: Mapping[str, str]
    below: Sequence[str] = ()  # DiffIDs that its layers begin with
    layers: int | None = None  # how many it has
    last_step: str = ""  # how the builder's words for its last step begin


def note_id(client: "DockerClient", name: str) -> None:
    """Note which image has the name, after it was built, made or pulled."""
    found = image_id(client, name)
    file = _note(client, name)
    if found is not None and noted_id(client, name) != found:
        make_own(YARD)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, f"{found}\n")


def noted_id(client: "DockerClient", name: str) -> str | None:
    """Return the id that was noted of the name, or None."""
    file = _note(client, name)
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def problem_of(client: "DockerClient", name: str, expected: Expected) -> str | None:
    """Return why the image here is not the one that its name promises, or None.

    ``ImageNotFound`` where there is none.
    """
    image, noted = client.images.get(name), noted_id(client, name)
    if noted is not None:
        if image.id == noted:
            return None
        return f"{name} is image {str(image.id)[:_SHOWN]}; the one made here was {noted[:_SHOWN]}"
    for label, value in expected.labels.items():
        if image.labels.get(label) != value:
            found = image.labels.get(label, "none")
            return f"{name} is another image: its label {label} is {found}, not {value}"
    layers = list(image.attrs["RootFS"].get("Layers") or ())
    if layers[: len(expected.below)] != list(expected.below):
        return f"{name} is another image: it was not built on its base"
    if expected.layers is not None and len(layers) != expected.layers:
        return f"{name} is another image: it has {len(layers)} layers, not {expected.layers}"
    step = " ".join(str(image.history()[0]["CreatedBy"]).split())
    if not step.startswith(expected.last_step):
        return f"{name} is another image: its last step is {step!r}"
    return None


def _note(client: "DockerClient", name: str) -> Path:
    # Engines give the same image different ids.
    engine = "".join(one for one in str(client.info().get("ID", "")) if one.isalnum() or one in "-")
    return YARD / "images" / (engine or "engine") / name.replace("/", "+").replace(":", "=")
