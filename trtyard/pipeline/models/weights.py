"""Reads ``--weights``, and records the weights for the report."""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple, Optional

import torch
import torchvision

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.files import sha256_of
from trtyard.core.published_weights import PRETRAINED
from trtyard.pipeline.models.checkpoint import Checkpoint, read_checkpoint, state_sha256
from trtyard.pipeline.models.model import Weights
from trtyard.pipeline.torch_support.published import Published, published, published_as

SEEDED = "seeded"

# The largest seed of torch's generators.
_LARGEST_SEED = 2**63 - 1


class Choice(NamedTuple):
    """The weights that the user chose: a file, or a seed."""

    file: Optional[str]
    seed: int  # also for values that a file does not set
    key: str = ""  # key in the file; empty if it holds one set of weights

    def read(self) -> Checkpoint:
        """Return the weights in the file. There must be a file."""
        return read_checkpoint(str(self.file), self.key)

    def published(self, name: str) -> Optional[Published]:
        """Return which of the files that torchvision publishes for ``name`` this is, or None."""
        return None if self.file is None else published_as(name, sha256_of(Path(self.file)))

    def facts(self, module: torch.nn.Module) -> Weights:
        """Return the source and sha256 of the weights of ``module``."""
        if self.file is not None:
            source = f"{self.file}#{self.key}" if self.key else self.file
            return Weights(source, sha256_of(Path(self.file)))
        return Weights(f"{SEEDED}:{self.seed}", state_sha256(module))


def choose(text: str) -> Choice:
    """Read the value of ``--weights``: seeded, seeded:N, or FILE or FILE#KEY of a checkpoint.

    Raises:
        UsageError: the seed is not a whole number, or too large.
        EnvironmentLacksError: ``pretrained``, which the host replaces by the downloaded file.
    """
    if text == PRETRAINED:
        raise EnvironmentLacksError(
            f"--weights {PRETRAINED}: the file was not downloaded; ./run convert does this",
            "./run convert --weights pretrained, or download the file and give it: --weights FILE",
        )
    if text == SEEDED:
        return Choice(None, 0)
    if text.startswith(SEEDED + ":"):
        seed = text[len(SEEDED) + 1 :]
        if not re.match(r"[0-9]+\Z", seed) or int(seed) > _LARGEST_SEED:
            raise UsageError(
                f"--weights {text}: the seed is a whole number from 0 to {_LARGEST_SEED}",
                f"--weights {SEEDED}:0",
            )
        return Choice(None, int(seed))
    file, _, key = text.rpartition("#")
    if file and not Path(text).is_file():  # a file's name may contain the character
        return Choice(file, 0, key)
    return Choice(text, 0)


def print_address(name: str) -> int:
    """Print the address of the weights that torchvision publishes for ``name``, or null."""
    found = published(name)
    address = found[0].address if found else None
    facts = {"address": address, "torchvision": torchvision.__version__}
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0
