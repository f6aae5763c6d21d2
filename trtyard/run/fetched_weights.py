"""``--weights pretrained`` and ``--weights URL#sha256=HEX``: get the file before the conversion."""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trtyard.core.errors import UsageError
from trtyard.core.known_models import FASTER_RCNN, is_known
from trtyard.core.onnx_files import is_onnx_file
from trtyard.core.published_weights import PRETRAINED
from trtyard.core.request import ConversionRequest
from trtyard.fetching.http import without_secrets
from trtyard.fetching.mirrors import read_mirrors
from trtyard.fetching.weights import (
    EXAMPLE,
    WeightsFile,
    have_weights,
    is_address,
    published_file,
    read_address,
)
from trtyard.run.job import Job


def asked_file(weights: str, model: str) -> WeightsFile | None:
    """Return the file that ``--weights`` names by its address, or None.

    Raises ``UsageError`` for an address that cannot be used, and for ``pretrained`` with a model
    that torchvision does not publish.
    """
    if weights == PRETRAINED:
        _refuse_others(model)
    return read_address(weights) if is_address(weights) else None


def shown_weights(weights: str) -> str:
    """Return the value of ``--weights`` without what may be a secret in its address."""
    return without_secrets(weights) if is_address(weights) else weights


def shown_options(request: ConversionRequest) -> dict[str, Any]:
    """Return the given options with ``shown_weights``.

    Two signatures of one address give the same options: the sha256 in it names the file.
    """
    given = request.given()
    return {**given, "weights": shown_weights(given["weights"])} if "weights" in given else given


def _refuse_others(model: str) -> None:
    if model == FASTER_RCNN:
        raise UsageError(
            f"--weights {PRETRAINED} is for torchvision's models, not for {model}",
            "download the checkpoint e2e_faster_rcnn_R_50_C4_1x of maskrcnn-benchmark: "
            f"--weights FILE, or {EXAMPLE}",
        )
    if not is_known(model):
        hint = f"give your model's weights: --weights FILE, or {EXAMPLE}"
        if is_onnx_file(model):
            hint = "an ONNX file has its weights in it"
        raise UsageError(f"--weights {PRETRAINED} is for torchvision's models, not {model}", hint)


def with_weights(job: Job, output_in_row: Callable[[Sequence[str]], str]) -> Job:
    """Return the job with the file of its weights, which is downloaded if necessary.

    Args:
        job: of the conversion.
        output_in_row: runs a command of the pipeline in the row and returns its output.
    """
    file, name = job.weights_file, job.request.weights
    if name == PRETRAINED:
        words = ("published-weights", "--model", job.request.model)
        facts = json.loads(output_in_row(words).strip().splitlines()[-1])
        if facts["address"] is None:
            raise UsageError(
                f"torchvision {facts['torchvision']} of row {job.row.name} publishes no weights of "
                f"{job.request.model}",
                f"choose another row (./run matrix), or give a file: ./run convert --model "
                f"{shlex.quote(job.request.model)} --weights FILE",
            )
        file = published_file(facts["address"])
    if file is None:
        return job
    path = have_weights(file, read_mirrors())
    if file.key:
        name = name[: -len(file.key) - 1]
    return replace(
        job,
        weights=path,
        weights_key=file.key,
        weights_name=shown_weights(name),
        weights_file=file,
    )
