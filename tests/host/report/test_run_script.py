"""The text of run.py, for every kind of model and row."""

import ast
import subprocess
import sys

import pytest

from trtyard.core.report import (
    PASSED,
    STAGES,
    DynamicDimension,
    EngineFacts,
    Inputs,
    Preprocess,
    Report,
    Stage,
    TensorInput,
)
from trtyard.core.toolchains import Toolchain
from trtyard.report.run_script import script, write_script
from trtyard.system.uv import ROOT

IMAGES = (TensorInput("images", (2, 3, 224, 96), "float32"),)
TENSORS = (TensorInput("ids", (2, 16), "int64"), TensorInput("mäsk", (16,), "bool"))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CROP = Preprocess("crop", "RGB", 255.0, *IMAGENET, 256)
FILL = Preprocess("fill", "RGB", 255.0, *IMAGENET)
STRETCH = Preprocess("stretch", "BGR", 1.0, (103.5, 116.5, 122.5), (1.0, 1.0, 1.0))
HOSTILE = 'a"""\n; raise SystemExit(9)\n\'{{ x }} %s:net'

MODELS = {
    "alexnet": (CROP, IMAGES),
    "fcn_resnet50": (CROP, IMAGES),
    "resnet50": (CROP._replace(resample="bicubic", as_torchvision=True), IMAGES),
    "faster_rcnn": (STRETCH, IMAGES),
    "ssd300_vgg16": (STRETCH, IMAGES),
    "timm:resnet18(num_classes=9)": (CROP._replace(resample="bicubic"), IMAGES),
    "net.onnx": (FILL, IMAGES),
    "nets.py:make": (None, TENSORS),
    "nets.py:constant": (None, ()),
    HOSTILE: (None, TENSORS),
}
ROWS = {
    "rtx": Toolchain("rtx-1.7", "rtx", "1.7.1.116", "2.13.0", "dynamo", 18),
    "11": Toolchain("11.3", "full", "11.3.0.99", "2.13.0", "dynamo", 18),
    "8": Toolchain("8.6", "full", "8.6.1.6", "2.2.2", "torchscript", 17),
    "7": Toolchain("7.0", "full", "7.0.0.11", "1.4.0", "torchscript", 10),
    "none": None,
}


def report(model, **changes):
    preprocess, tensors = MODELS[model]
    stages = tuple(Stage(name, PASSED, 1.0) for name in STAGES)
    made = Report("rtx-1.7", model, "fp32", "host", stages, preprocess=preprocess)
    return made._replace(inputs=Inputs(tensors), **changes)


def constants(text):
    """Return what the names at the top of the script stand for."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("model", MODELS)
def test_it_is_python_3_6_and_as_ruff_formats_it(model, row):
    text = script(report(model), ROWS[row])
    ast.parse(text, feature_version=(3, 6))
    assert text.isascii()
    assert len(text.splitlines()) < 260
    assert constants(text)["MODEL"] == model
    for words in (["check", "--select", "E,F,W,I,B,D,SIM"], ["format", "--check"]):
        options = ["--isolated", "--no-cache", "--line-length", "100"]
        if words[0] == "check":
            options += ["--ignore", "D203,D213", "--target-version", "py37"]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *words, *options, "-"],
            input=text, capture_output=True, text=True, cwd=ROOT,
        )  # fmt: skip
        # A name of a model with quotes is formatted as ruff would format it only by chance.
        assert done.returncode == 0 or model == HOSTILE, done.stdout + done.stderr


def test_inputs_are_those_of_the_report():
    assert constants(script(report("nets.py:make"), None))["INPUTS"] == {
        "ids": ("int64", (2, 16)),
        "mäsk": ("bool", (16,)),
    }
    made = constants(script(report("faster_rcnn"), None))
    assert made["INPUTS"] == {"images": ("float32", (2, 3, 224, 96))}
    assert made["MEAN"] == (103.5, 116.5, 122.5)


@pytest.mark.parametrize(
    ("profiles", "batch"),
    [([(1, 4, 8)], 1), ([(2, 4, 8)], 4), ([(2, 4, 8), (1, 1, 1)], 4), ([(1, 4, 4), (8, 8, 8)], 1)],
)
def test_varying_batch_is_1_if_possible(profiles, batch):
    dimensions = (
        DynamicDimension("batch", ("ids[0]",), tuple(profiles)),
        DynamicDimension("length", ("ids[1]", "mäsk[0]"), tuple(profiles)),
    )
    changed = report("nets.py:make", dimensions=dimensions)
    changed = changed._replace(
        inputs=Inputs((TensorInput("ids", (4, 4), "int64"), TensorInput("mäsk", (4,), "bool")))
    )
    made = constants(script(changed, None))
    assert made["INPUTS"] == {"ids": ("int64", (batch, 4)), "mäsk": ("bool", (4,))}
    limits = min(one[0] for one in profiles), max(one[2] for one in profiles)
    assert made["VARIES"] == dict.fromkeys([("ids", 0), ("ids", 1), ("mäsk", 0)], limits)


@pytest.mark.parametrize(
    ("row", "modules", "library"),
    [
        ("rtx", ("tensorrt_rtx", "tensorrt_rtx_bindings"), "libtrtyard_plugins_v3.so"),
        ("11", ("tensorrt", "tensorrt_bindings"), "libtrtyard_plugins_v3.so"),
        ("8", ("tensorrt", "tensorrt_bindings"), "libtrtyard_plugins_v2.so"),
    ],
)
def test_tensorrt_is_that_of_the_row(row, modules, library):
    engine = EngineFacts(1, 1, ("PaddedNMS",))
    text = script(report("faster_rcnn", engine=engine), ROWS[row])
    assert constants(text)["TENSORRT"] == modules
    assert constants(text)["NEEDS_PLUGINS"] is True
    assert f"--plugins {library}" in text
    assert ("get_plugin_registry" in text) == (row != "8")
    assert constants(script(report("alexnet"), ROWS[row]))["NEEDS_PLUGINS"] is False


@pytest.mark.parametrize("row", ["7", "none"])
def test_without_usable_tensorrt_onnx_runtime_runs(row):
    text = script(report("alexnet"), ROWS[row])
    assert "execute_async" not in text
    assert "ctypes" not in text


def test_a_twin_runs_where_onnx_runtime_cannot_run_the_file():
    facts = {"sha256": "00", "bytes": 1}
    twin = report("faster_rcnn", artifacts={"model.onnx": facts, "model.twin.onnx": facts})
    assert 'ONNX = HERE / "model.twin.onnx"' in script(twin, ROWS["7"])
    assert 'ONNX = HERE / "model.onnx"' in script(report("faster_rcnn"), ROWS["7"])


def test_it_is_written_beside_a_model_that_the_report_can_run(tmp_path):
    write_script(report("alexnet"), tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "model.onnx").touch()
    write_script(report("alexnet", preprocess=None), tmp_path)  # of an older release
    assert [one.name for one in tmp_path.iterdir()] == ["model.onnx"]
    write_script(report("alexnet"), tmp_path)
    assert "tensorrt_rtx" in (tmp_path / "run.py").read_text()


def test_model_of_timm_is_a_classifier_with_its_own_filter():
    text = script(report("timm:resnet18(num_classes=9)"), None)
    assert "Image.BICUBIC" in text
    assert "Image.BILINEAR" not in text
    assert "show_classes(outputs" in text
    assert "Image.BICUBIC" not in script(report("alexnet"), None)
