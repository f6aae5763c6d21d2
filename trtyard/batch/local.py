"""Runs conversions on this machine, each in a process of its own with its log in its folder."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from trtyard.batch.jobs_file import BatchJob
from trtyard.batch.record import LOG_FILE, Attempt, code_in_words, command_of
from trtyard.report import words
from trtyard.system.interruptions import held_back
from trtyard.system.processes import running
from trtyard.system.terminal import say

_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class _Running:
    job: BatchJob
    attempt: Attempt
    child: "subprocess.Popen[bytes]"
    context: contextlib.ExitStack


def run_here(jobs: Sequence[BatchJob], workers: int) -> None:
    """Run the conversions, at most ``workers`` at a time, and record how each one ends.

    A failure does not stop the others. An interruption ends all of them and is raised again.
    """
    waiting, active, ended = deque(jobs), list[_Running](), 0
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                with held_back():
                    active.append(_started(waiting.popleft()))
            time.sleep(_POLL_SECONDS)
            for one in [each for each in active if each.child.poll() is not None]:
                with held_back():
                    active.remove(one)
                    _ended(one)
                ended += 1
                say(f"{ended} of {len(jobs)} ended: {_in_words(one)}")
    except BaseException:
        _end(active)
        raise


def _started(job: BatchJob) -> _Running:
    attempt = Attempt.of(job.job)
    context = contextlib.ExitStack()
    with (job.job.out / LOG_FILE).open("wb") as log:
        command = command_of(job.job.request)
        child = context.enter_context(running(command, None, None, log.fileno()))
    return _Running(job=job, attempt=attempt, child=child, context=context)


def _ended(one: _Running) -> None:
    one.context.close()
    one.attempt.ended(one.child.returncode)


def _in_words(one: _Running) -> str:
    taken = words.seconds(time.monotonic() - one.attempt.started)
    text = f"{', '.join(one.job.words)}: {code_in_words(one.child.returncode)} after {taken}"
    return text if one.child.returncode == 0 else f"{text}\n  {one.job.job.out / LOG_FILE}"


def _end(active: Sequence[_Running]) -> None:
    """End all conversions: interrupt all first, then wait for each."""
    for one in active:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(one.child.pid, signal.SIGINT)
    for one in active:
        one.context.__exit__(*sys.exc_info())
