"""The conversions of jobs.toml as commands for the Jobs that ``trtyard.publish`` renders."""

import shlex
from collections.abc import Iterator

from trtyard.batch.jobs_file import BatchJob, existing_file, in_folder_of, read_jobs
from trtyard.core.errors import UsageError
from trtyard.core.published_weights import PRETRAINED
from trtyard.core.request import ConversionRequest
from trtyard.system.uv import OUT


def commands_of(file: str) -> dict[str, dict[str, str]]:
    """Return the pod's folder and options for each conversion, by row and the folder's name.

    Raises:
        UsageError: a conversion needs what a pod does not have. The message lists all of them.
    """
    path = existing_file(file)
    with in_folder_of(path):
        jobs = read_jobs(path, OUT)
    problems = [f"{', '.join(job.words)}: {problem}" for job in jobs for problem in _problems(job)]
    if problems:
        raise UsageError(
            "\n  ".join([f"{path.name} has conversions that Kubernetes cannot run", *problems])
        )
    commands: dict[str, dict[str, str]] = {}
    for job in jobs:
        words = [job.job.out.name, *_options(job.job.request)]
        commands.setdefault(job.job.row.name, {})[job.job.out.name] = shlex.join(words)
    return commands


def _options(request: ConversionRequest) -> Iterator[str]:
    known = ConversionRequest.options()
    for field, value in request.given().items():
        if not known[field].host_only:
            name = known[field].name
            yield f"--{name}" if value is True else f"--{name}={value}"


def _problems(job: BatchJob) -> Iterator[str]:
    request = job.job.request
    for path in job.job.inputs():
        yield f"a pod does not have {path}"
    if job.job.weights_file is not None or request.weights == PRETRAINED:
        yield f"a pod cannot download --weights {request.weights}"
    if request.runtime is not None:
        yield f"a pod does not have the packages of --runtime {request.runtime}"
    if job.job.requirements:
        yield f"a pod does not have the packages {', '.join(job.job.requirements.texts)}"
    known = ConversionRequest.options()
    for field, value in request.given().items():
        in_image = field in ("row", "out") or (field == "where" and value == "docker")
        if known[field].host_only and not in_image:
            yield f"a pod does not support {known[field].name} = {value!r}"
