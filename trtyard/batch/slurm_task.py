"""What an index of a Slurm array runs on its node: ``python -I slurm_task.py FOLDER``.

``FOLDER/job.json`` holds the conversion. Its result is recorded in the same folder, which the
command that waits for the array sees on the shared file system.
"""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from trtyard.batch.record import Attempt, Result, command_of, is_final, read_result, write_result
from trtyard.core.errors import EnvironmentLacksError, TrtyardError
from trtyard.core.files import write_json
from trtyard.core.request import ConversionRequest
from trtyard.run.convert import job_of
from trtyard.run.job import Job
from trtyard.system.processes import run
from trtyard.system.terminal import say

JOB_FILE = "job.json"
_BY_SIGNAL = 128  # plus the signal's number


def write_job(job: Job) -> None:
    """Write the conversion into its folder; relative paths are relative to the current folder."""
    job.out.mkdir(parents=True, exist_ok=True)
    write_json(job.out / JOB_FILE, {"folder": str(Path.cwd()), "request": job.request.given()})


def run_task(folder: Path) -> int:
    """Run the conversion in ``folder``, record how it ended, and return its exit code."""
    ended = read_result(folder)
    if ended is not None and is_final(ended):  # Slurm has lost the node after the conversion ended
        return ended.exit_code
    node = os.environ.get("SLURMD_NODENAME", "this machine")
    say(f"attempt {int(os.environ.get('SLURM_RESTART_COUNT') or 0) + 1} on {node}")
    try:
        value = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
        os.chdir(value["folder"])
        job = job_of(ConversionRequest(**value["request"]))
        attempt = Attempt.of(job)
    except TrtyardError as error:
        say(str(error))
        write_result(folder, Result(exit_code=error.exit_code, identity={}, report=None))
        return error.exit_code
    code = run(command_of(job.request))
    attempt.ended(code)
    return code if code >= 0 else _BY_SIGNAL - code


def main() -> int:
    """Run the conversion of the folder on the command line; return its exit code."""
    signal.signal(signal.SIGTERM, _end)
    try:
        return run_task(Path(sys.argv[1]))
    except OSError as error:  # a full disk, or the folder is not shared with this node
        say(f"{error.strerror}: {error.filename}")
        return EnvironmentLacksError.exit_code


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(_BY_SIGNAL + number)


if __name__ == "__main__":
    raise SystemExit(main())
