"""The log of a TensorRT that only writes to stderr; written to as C++ does, past sys.stderr."""

import os
import subprocess
import sys
from pathlib import Path

from trtyard.pipeline.tensorrt.stderr_log import StderrLog

ROOT = Path(__file__).resolve().parents[3]


def write(text):
    os.write(2, text.encode())


def test_messages_are_kept_by_kind_and_passed_on(capfd):
    with StderrLog() as log:
        write("[TensorRT] WARNING: Your ONNX model has INT64 weights\n")
        write("[TensorRT] INFO: not kept\nof two lines\n")
        write("[TensorRT] ERROR: Network must have at least one output\n")
        write("ERROR: ModelImporter.cpp:134 In function parseGraph:\n[8] No importer: NonZero\n")
        write("[TensorRT] INTERNAL ERROR: Assertion failed\n")
    assert log.warnings == ["Your ONNX model has INT64 weights"]
    assert log.errors == [
        "Network must have at least one output",
        "ModelImporter.cpp:134 In function parseGraph:\n[8] No importer: NonZero",
        "Assertion failed",
    ]
    assert "not kept\nof two lines" in capfd.readouterr().err


def test_errors_are_readable_inside_the_block(capfd):
    with StderrLog() as log:
        write("[TensorRT] ERROR: first\n[TensorRT] ERROR: second\n")
        assert log.last_errors(1) == "second"
        write("afterwards\n")
        assert log.last_errors() == "first\nsecond"
    assert capfd.readouterr().err.endswith("second\nafterwards\n")


def test_empty_log_is_reported(capfd):
    with StderrLog() as log:
        pass
    assert log.last_errors() == "TensorRT gave no reason"
    assert (log.errors, log.warnings) == ([], [])


def test_large_output_does_not_block(capfd):
    with StderrLog() as log:
        for number in range(20000):
            write(f"[TensorRT] WARNING: number {number}\n")
    assert len(log.warnings) == 20000
    assert "number 19999\n" in capfd.readouterr().err


def test_log_survives_an_aborted_process():
    script = (
        "import os\nfrom trtyard.pipeline.tensorrt.stderr_log import StderrLog\n"
        "with StderrLog():\n    os.write(2, b'the last words\\n')\n    os.abort()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode < 0
    assert "the last words" in done.stderr


def test_log_reader_survives_an_interrupt():
    """From a terminal, or the command runner, it comes to the whole group."""
    script = (
        "import os, signal, time\nfrom trtyard.pipeline.tensorrt.stderr_log import StderrLog\n"
        "with StderrLog() as log:\n"
        "    try:\n        os.killpg(0, signal.SIGINT)\n        signal.pause()\n"
        "    except KeyboardInterrupt:\n        time.sleep(0.2)\n"
        "        os.write(2, b'[TensorRT] ERROR: the last words\\n')\n"
        "assert log.errors == ['the last words'], log.errors\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "[TensorRT] ERROR: the last words\n"
