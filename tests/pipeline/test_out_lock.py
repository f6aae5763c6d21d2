"""What a model's code starts does not hold the output folder."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A fork that sleeps, and a program that inherits what may be inherited.
SCRIPT = """
import os, subprocess, sys, time
from trtyard.pipeline.out_lock import keep_to_this_process
keep_to_this_process()
keep_to_this_process()
assert "TRTYARD_OUT_LOCK" not in os.environ
os.fstat(int(sys.argv[1]))  # this process still has it
child = os.fork()
if not child:
    time.sleep(60)
    os._exit(0)
program = subprocess.Popen(["sleep", "60"], close_fds=False)
print(child, program.pid, flush=True)
sys.stdin.read()
"""


def test_children_of_a_model_do_not_hold_the_folder(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    env["TRTYARD_OUT_LOCK"] = str(descriptor)
    words = [sys.executable, "-c", SCRIPT, str(descriptor)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, env=env, pass_fds=[descriptor], **pipes) as pipeline:
        children = pipeline.stdout.readline().split()
        os.close(descriptor)
        other = os.open(tmp_path, os.O_RDONLY)
        try:
            assert not can_lock(other)  # the pipeline's process holds it alone
            pipeline.stdin.close()
            pipeline.wait()
            assert can_lock(other)
        finally:
            os.close(other)
            for child in children:
                os.kill(int(child), 9)


def can_lock(descriptor):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
