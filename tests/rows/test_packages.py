"""Models of real packages from the package index, up to ONNX; docs/packages.md has more."""

import json
import subprocess
import sys

import pytest

from trtyard.system.uv import ROOT

BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 128,
    "vocab_size": 1000,
}
UNET = """
# /// script
# dependencies = ["segmentation-models-pytorch==0.6.0"]
# ///
import segmentation_models_pytorch as smp


def make():
    return smp.Unet("resnet18", encoder_weights=None)
"""


@pytest.mark.parametrize(
    ("row", "words", "package"),
    [
        ("rtx-1.7", ["timm:resnet18", "--with", "timm==1.0.31"], "timm"),
        ("rtx-1.7", ["nets.py:make", "--input", "1x3x64x64"], "segmentation-models-pytorch"),
        ("8.6", ["hf:bert"], "transformers"),
        ("7.0", ["timm:resnet18"], "timm"),
    ],
)
def test_model_of_a_package_agrees_with_torch(environment_of, row, words, package, tmp_path):
    environment_of(row)
    (tmp_path / "nets.py").write_text(UNET)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps(BERT))
    command = [sys.executable, "-I", str(ROOT / "trtyard" / "__main__.py"), "convert", "--trt", row]
    command += ["--model", *words, "--out", "out", "--in", "host", "--until", "onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert package in [one["name"] for one in report["packages"]["installed"]]
    assert report["parity"]
    assert all(each["passed"] for each in report["parity"])
