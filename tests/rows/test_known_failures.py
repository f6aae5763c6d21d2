"""Known failures of torch 1.4 and 2.2, provoked on real ones."""

import signal
import subprocess
from pathlib import Path

import pytest
from old_python import UTF8

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.toolchains import Toolchain, is_within
from trtyard.known_failures import named
from trtyard.known_failures.explanation import explain
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.environment import make_environment
from trtyard.system.interpreters import find_python
from trtyard.system.uv import uv

SCRIPT = Path(__file__).with_name("torch_1_4_failures.py")


@pytest.fixture(scope="module")
def old_python():
    """Return the interpreter of row 7.0's environment, whose torch is 1.4."""
    return python_of("7.0")


def python_of(name):
    row, lock = row_and_lock(name)
    try:
        find_python(row.host_pythons)
    except EnvironmentLacksError as error:
        pytest.skip(error.message)
    return make_environment(row, lock).python


@pytest.fixture
def export(old_python, tmp_path):
    """Return a function that exports one of the script's modules and gives what it printed."""

    def run(module, opset=10):
        done = subprocess.run(
            [old_python, SCRIPT, module, str(opset), tmp_path / "model.onnx"],
            env={"PATH": "", **UTF8},
            capture_output=True,
            text=True,
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize(
    ("name", "module", "op", "code"),
    [
        ("output-of-own-class", "OwnClass", "", None),
        ("function-without-symbolic", "Function", "_ROIAlign", "in forward"),
        ("library-op-without-symbolic", "Nms", "torchvision::nms", "in forward"),
        ("op-without-onnx-form", "Inverse", "inverse", None),
        ("op-without-onnx-form", "Histogram", "histc", None),
        ("attribute-not-constant", "Pool", "", None),
        ("op-without-onnx-form", "UpsampleToCorners", "aten::upsample_bilinear2d", "in forward"),
    ],
)
def test_exporter_errors_are_known(name, module, op, code, export):
    explanation = explain(export(module))[0]
    assert (explanation.failure.name, explanation.place.op) == (name, op)
    if code:
        assert str(SCRIPT) in explanation.place.python
        assert code in explanation.place.python


def test_unsupported_opset_is_known(export):
    assert explain(export("Topk", 12))[0].failure.name == "opset-unknown-to-torch"


# The wheel of onnx 1.6.0 for Python 3.6; no row has it, because of what it does.
ONNX_1_6 = (
    "onnx==1.6.0 --hash=sha256:a7e3ab3e81684bc75ac5476b5f2c690ad8d250bc8ece02eed5445c115577e6e4\n"
)
CHECK = """
import {first}, {second}
import onnx
from onnx import helper
x, y = (helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", [x], [y])
onnx.checker.check_model(helper.make_model(graph))
print(onnx.__version__, "checked")
"""


@pytest.fixture(scope="module")
def onnx_1_6(old_python, tmp_path_factory):
    """Return a folder with onnx 1.6.0 for row 7.0's Python."""
    folder = tmp_path_factory.mktemp("onnx-1.6")
    (folder / "onnx.txt").write_text(ONNX_1_6)
    command = [uv(), "pip", "install", "--quiet", "--python", old_python, "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "--target", folder]
    done = subprocess.run(
        [*command, "-r", folder / "onnx.txt"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"onnx 1.6.0 could not be had: {done.stderr.strip().splitlines()[-1]}")
    return folder


@pytest.mark.parametrize(("first", "second"), [("torch", "onnx"), ("onnx", "torch")])
def test_checker_crashes_if_torch_is_imported_first(old_python, onnx_1_6, first, second):
    done = subprocess.run(
        [old_python, "-X", "faulthandler", "-c", CHECK.format(first=first, second=second)],
        env={"PYTHONPATH": str(onnx_1_6), "PATH": "", **UTF8},
        capture_output=True,
        text=True,
    )
    if first == "onnx":  # as the hint says
        assert done.stdout == "1.6.0 checked\n", done.stderr
    else:
        assert done.returncode == -signal.SIGSEGV, done.stderr
        assert explain(done.stderr)[0].failure.name == "checker-segfault"


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("tensor-frozen", "AsTensor"),
        ("python-value-frozen", "Branch"),
        ("in-place-change-lost", "SliceAssignment"),
        ("in-place-change-lost", "Clamp"),
    ],
)
def test_tracer_warnings_are_known(name, module, export):
    explanation = explain(export(module))[0]
    assert explanation.failure.name == name
    assert explanation.failure.warning
    assert str(SCRIPT) in explanation.place.python


LOOK = """
import sys, onnx, onnxruntime, numpy
model = onnx.load(sys.argv[1])
print("ops", *(node.op_type for node in model.graph.node))
print("inputs of TopK", *(len(node.input) for node in model.graph.node if node.op_type == "TopK"))
x = (numpy.arange(16, dtype=numpy.float32) - 4).reshape(4, 4)
given = {each.name: x for each in onnxruntime.InferenceSession(sys.argv[1]).get_inputs()}
print(onnxruntime.InferenceSession(sys.argv[1]).run(["y"], given)[0].tolist())
"""


def look(python, file):
    done = subprocess.run(
        [python, "-c", LOOK, file], env={"PATH": "", **UTF8}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_slice_assignment_gives_zero_boxes(old_python, export, tmp_path):
    export("SliceAssignment")
    assert look(old_python, tmp_path / "model.onnx")[-1] == str([[0.0] * 4] * 4)


def test_an_in_place_clamp_leaves_boxes_outside(old_python, export, tmp_path):
    export("Clamp")
    values = eval(look(old_python, tmp_path / "model.onnx")[-1])  # noqa: S307 - our own print
    assert [row[0] for row in values] == [-400.0, 0.0, 400.0, 800.0]


@pytest.mark.parametrize(("opset", "alike"), [(9, False), (10, False), (11, True)])
def test_bilinear_resize_differs_before_opset_11(old_python, export, tmp_path, opset, alike):
    warned = [one.failure.name for one in explain(export("Upsample", opset))]
    assert warned == ["resize-before-opset-11"] * (not alike)
    values = eval(look(old_python, tmp_path / "model.onnx")[-1])  # noqa: S307 - our own print
    # Of rows -4 -3 -2 -1: half a pixel in from the border, PyTorch repeats what lies there.
    assert (values[0][0][0][:3] == [-4.0, -3.75, -3.25]) == alike


@pytest.mark.parametrize(("opset", "inputs"), [(9, "1"), (10, "2")])
def test_k_of_topk_is_a_tensor_from_opset_10_on(old_python, export, tmp_path, opset, inputs):
    # The claim of topk-k-is-a-tensor about torch 1.4; TensorRT 7.0 itself cannot run here.
    export("Topk", opset)
    assert look(old_python, tmp_path / "model.onnx")[1] == f"inputs of TopK {inputs}"


@pytest.mark.parametrize(("opset", "op"), [(10, "NonZero"), (11, "Range")])
def test_arange_needs_nonzero_before_opset_11(old_python, export, tmp_path, opset, op):
    # The claim of nonzero about arange.
    export("Arange", opset)
    assert op in look(old_python, tmp_path / "model.onnx")[0].split()


KEYPOINTS = """
import torch
from torchvision.models.detection import roi_heads
torch.manual_seed(0)
maps, boxes = torch.rand(2, 3, 8, 8), torch.tensor([[0.0, 0, 40, 30], [5, 5, 60, 70]])
right, scores = roi_heads.heatmaps_to_keypoints(maps, boxes)
sizes = boxes[:, 2:] - boxes[:, :2]
exported, wrong = roi_heads._onnx_heatmaps_to_keypoints_loop(
    maps, boxes, *sizes.t(), *sizes.t(), *boxes[:, :2].t(), torch.tensor(3)
)
print("places", bool(torch.allclose(exported.permute(0, 2, 1), right, atol=1e-4)))
print("scores", [bool(torch.allclose(wrong[:, k], scores[:, k])) for k in range(3)])
"""


def test_torchvision_0_5_misplaces_keypoint_scores(old_python):
    done = subprocess.run(
        [old_python, "-c", KEYPOINTS], env={"PATH": "", **UTF8}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["places True", "scores [True, False, False]"], done.stderr
    row = Toolchain("7.0", "full", "7.0.0.11", "1.4.0", "torchscript", 11)
    assert is_within(row, named("keypoint-scores-of-the-first").affected)


@pytest.mark.parametrize(
    ("gradients", "failure"), [("none", "attention-fast-path"), ("gradients", "")]
)
def test_torch_2_2_attention_fast_path_without_gradients(gradients, failure):
    script = SCRIPT.with_name("torch_2_2_failures.py")
    done = subprocess.run(
        [python_of("8.6"), script, "Attention", "17", gradients],
        env={"PATH": "", **UTF8},
        capture_output=True,
        text=True,
    )
    found = [one.failure.name for one in explain(done.stderr) if not one.failure.warning]
    assert found[:1] == [failure] * bool(failure), done.stderr
    assert (done.returncode == 0) == (failure == "")
