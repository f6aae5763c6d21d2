"""The model's code may close or replace the pipeline's output streams."""

import os
import subprocess
import sys

import pytest

CODE = """
import io, os, sys
from trtyard.pipeline.export.quiet import output_kept_away
from trtyard.pipeline.streams import restore_streams, streams_kept
with streams_kept():
    with output_kept_away():
        print("kept away")
    {}
    restore_streams()
    print("out")
    print("err", file=sys.stderr)
    with output_kept_away():
        {}
print("out again")
"""


@pytest.mark.parametrize(
    "act",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "sys.stdout = sys.stderr = io.StringIO()",
        "os.close(1); os.close(2)",
        "sys.stdout.close(); file = open(os.devnull)",
    ],
)
def test_output_goes_on(act):
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(act, act)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\nout again\n", "err\n")
