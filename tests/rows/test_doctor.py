"""``doctor --model`` from a model's name to a verdict on each of its ops."""

import subprocess
import sys

from trtyard.system.uv import ROOT

NET = """
import torch


class Masked(torch.nn.Module):
    def forward(self, image):
        doubled = image * 2
        return doubled[doubled > 0.5]


def make():
    return Masked()
"""


def doctor(*words, cwd):
    command = [sys.executable, "-I", str(ROOT / "trtyard" / "__main__.py"), "doctor", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_own_model_is_exported_and_its_ops_checked(tmp_path):
    (tmp_path / "net.py").write_text(NET)
    done = doctor("--model", "net.py:make", "--input", "3x3", cwd=tmp_path)
    words = " ".join(done.stdout.split())
    assert done.returncode == 4, done.stdout + done.stderr
    assert "problem NonZero 1 node: this TensorRT has no NonZero" in words
    assert "net.py:8 in forward: return doubled[doubled > 0.5]" in words
    assert "supported by: row 11.3, 10.16, 8.6" in words
    assert "ok the others Mul, Greater" in words


def test_supported_model_exits_with_0(tmp_path):
    done = doctor("--model", "squeezenet1_1", "--size", "64", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok          the model     all ops are supported:" in done.stdout
