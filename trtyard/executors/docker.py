"""The Docker executor: the row's image. Not built yet, and says so."""

from trtyard.executors import Job
from trtyard.lock import LockedRow
from trtyard.matrix import Row
from trtyard.pipeline.errors import EnvironmentLacksError

_MISSING = "trtyard cannot build images yet"


def engine_problem() -> str | None:
    """Return why no engine can be used, or None."""
    return _MISSING


def why_not(row: Row, locked: LockedRow) -> str | None:
    """Return why the row cannot run here as things are, or None."""
    del row, locked
    return _MISSING


def describe(row: Row, locked: LockedRow) -> str:
    """Return what would run, and what would have to be made first."""
    del locked
    return f"the image of row {row.name}"


def convert(job: Job) -> int:
    """Run the job in the row's image."""
    del job
    raise EnvironmentLacksError(_MISSING, "leave out --in docker")
