"""Builds the image for a model that needs packages: the row's image with one more layer.

The layer holds the packages as they were resolved and installed on this machine, so the build and
the container need no network. The tag is a hash of the row's image and of the packages; an image
with this tag is not built again.
"""

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from trtyard.build.bake import DEFAULT_BUILDER
from trtyard.build.buildkit import explained
from trtyard.build.identity import Expected, note_id, problem_of
from trtyard.core.errors import IntegrityError
from trtyard.core.files import sha256_of, write_text
from trtyard.core.packages import FACTS_FILE
from trtyard.system.docker_engine import docker_command
from trtyard.system.processes import CommandError, Word, check
from trtyard.system.terminal import say

if TYPE_CHECKING:
    from docker import DockerClient

PACKAGES_PATH = "/opt/trtyard/with"
PACKAGES_LABEL = "trtyard.with"
_DOCKERFILE = f"FROM row\nCOPY --from=packages / {PACKAGES_PATH}/\n"


def image_with_packages(client: "DockerClient", image: str, folder: Path) -> str:
    """Return the name of the image with the packages in ``folder``; build it first if needed.

    Args:
        client: of the engine.
        image: the name of the row's image.
        folder: with the packages, complete.

    Raises:
        EnvironmentLacksError: Docker or disk space is missing.
        IntegrityError: another image has the name.
    """
    from docker.errors import ImageNotFound

    base = client.images.get(image)
    packages = sha256_of(folder / FACTS_FILE)  # the same requirements may resolve to others later
    key = hashlib.sha256(f"{base.id} {packages}".encode()).hexdigest()[:12]
    name = f"{image.partition(':')[0]}-with:{key}"
    below = list(base.attrs["RootFS"]["Layers"])
    expected = Expected(labels={PACKAGES_LABEL: packages}, below=below, layers=len(below) + 1)
    try:
        problem = problem_of(client, name, expected)
    except ImageNotFound:
        _build(client, image, folder, name, packages)
        problem = problem_of(client, name, expected)
    if problem is not None:
        raise IntegrityError(problem, f"docker image rm {name}, then run the command again")
    return name


def _build(client: "DockerClient", image: str, folder: Path, name: str, packages: str) -> None:
    say(f"building {name}: {image} and the packages")
    with tempfile.TemporaryDirectory(prefix="trtyard-with-") as context:
        write_text(Path(context, "Dockerfile"), _DOCKERFILE)
        command: list[Word] = [docker_command(), "buildx", "build", "--builder", DEFAULT_BUILDER]
        command += ["--build-context", f"row=docker-image://{image}"]
        command += ["--build-context", f"packages={folder}"]
        command += ["--label", f"{PACKAGES_LABEL}={packages}", "--network", "none"]
        command += ["--provenance=false", "--tag", name, context]
        try:
            check(command)
        except CommandError as error:
            raise explained(error) from None
    note_id(client, name)
