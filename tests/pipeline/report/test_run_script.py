"""run.py, copied with model.onnx to an empty folder and run there with nothing of trtyard."""

import ast
import ctypes
import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from trtyard.core.cuda_device import first_device
from trtyard.core.report import RUN_FILE, Inputs, Preprocess, Report, TensorInput
from trtyard.core.request import ConversionRequest
from trtyard.pipeline.conversion import outputs_of
from trtyard.pipeline.convert import Surroundings, convert
from trtyard.pipeline.models.picture import read_picture
from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.row import Row
from trtyard.pipeline.run_engine import _write
from trtyard.report.pages import make_pages
from trtyard.report.run_script import script

ROW = Row("rtx-1.7", "1.7.1.116", "rtx", "dynamo", 18, "13.0", ("89",), ("8.9",))
PLUGINS = Path(__file__).resolve().parents[3] / "plugins"

NETS = """\
import torch
from torch import nn

class Gather(nn.Module):
    def forward(self, x, ids):
        return {"picked": x[:, ids] * 2, "sum": ids.sum(), "large": x > 0}
"""


def loaded(request):
    return load_model(
        request.model,
        weights=request.weights,
        image=request.image,
        size=request.size,
        input_shape=request.input,
        top_n=request.top_n,
        norm_epsilon=None,
        detections=request.detections,
    )


def inputs_of(model):
    return {name: value.numpy() for name, value in zip(model.input_names, model.inputs)}


class Converted:
    """A converted model, and an empty folder with its script."""

    def __init__(self, root, **options):
        self.request = ConversionRequest(until="onnx", **options)
        out, self.folder = root / "out", root / "empty"
        convert(ROW, self.request, Surroundings("host", out, PLUGINS, root))
        make_pages([str(out)])
        self.folder.mkdir()
        for name in ("model.onnx", RUN_FILE):
            shutil.copy(out / name, self.folder / name)

    def start(self, *words):
        """Run the script without the current folder, user packages and variables on its path."""
        return subprocess.run(
            [sys.executable, "-I", RUN_FILE, *words],
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nothing"},
            capture_output=True,
            text=True,
        )

    def run(self, *words):
        """Return what the script prints, and its outputs."""
        done = self.start(*words, "--with", "onnxruntime", "--save", "outputs.npz")
        assert (done.returncode, done.stderr) == (0, "")
        with np.load(self.folder / "outputs.npz") as archive:
            return done.stdout, {name: archive[name] for name in archive.files}

    def reference(self, **changes):
        """Return this process's ONNX Runtime's outputs, from the pipeline's own input."""
        model = loaded(self.request.replaced(**changes))
        file = self.folder / "model.onnx"
        return run_onnx(file, inputs_of(model), model.output_names)


@pytest.fixture(scope="module")
def astronaut(tmp_path_factory):
    """Return the file of the default picture."""
    file = tmp_path_factory.mktemp("picture") / "astronaut.png"
    Image.fromarray(read_picture().rgb).save(file)
    return str(file)


@pytest.fixture(scope="module")
def odd_picture(tmp_path_factory):
    """Return a picture that lies on its side, with transparent pixels."""
    rgb = read_picture().rgb[:301, :480]
    alpha = np.linspace(0, 255, rgb.shape[1]).astype(np.uint8)
    rgba = np.dstack([rgb, np.broadcast_to(alpha, rgb.shape[:2])])
    file = tmp_path_factory.mktemp("picture") / "odd.png"
    exif = Image.Exif()
    exif[274] = 6  # the orientation
    Image.fromarray(rgba).save(file, exif=exif)
    return str(file)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return Converted(tmp_path_factory.mktemp("net"), model="squeezenet1_1", size=97)


def same(outputs, reference):
    assert list(outputs) == list(reference)
    for name, value in reference.items():
        assert outputs[name].dtype == value.dtype
        np.testing.assert_array_equal(outputs[name], value)


def test_a_classifier_prints_its_best_classes(classifier, astronaut):
    printed, outputs = classifier.run(astronaut)
    same(outputs, classifier.reference())
    torch_outputs = outputs_of(loaded(classifier.request))
    np.testing.assert_allclose(outputs["logits"], torch_outputs["logits"], atol=1e-4)
    title, *lines = printed.splitlines()
    assert title.split() == ["class", "score"]
    best = np.argsort(-torch_outputs["logits"][0])[:5]
    assert [int(line.split()[0]) for line in lines] == best.tolist()


def test_any_picture_becomes_the_input_that_the_pipeline_makes(classifier, odd_picture):
    same(classifier.run(odd_picture)[1], classifier.reference(image=odd_picture))


def test_a_batch_from_a_range_is_one_picture(tmp_path, astronaut):
    wide = Converted(tmp_path, model="squeezenet1_1", input="1..4x3x64x96")
    outputs = wide.run(astronaut)[1]
    assert outputs["logits"].shape == (1, 1000)
    single = wide.reference(input="1x3x64x96")
    np.testing.assert_array_equal(outputs["logits"], single["logits"])


def test_a_segmenter_prints_the_shares_of_its_classes(tmp_path, astronaut):
    net = Converted(tmp_path, model="lraspp_mobilenet_v3_large", size=64)
    printed, outputs = net.run(astronaut, "--top", "3")
    same(outputs, net.reference())
    shares = [float(line.split()[1].rstrip("%")) for line in printed.splitlines()[1:]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) <= 3
    assert 0 < sum(shares) <= 100.1


def test_faster_rcnn_prints_and_draws_boxes(tmp_path, astronaut, odd_picture):
    net = Converted(tmp_path, model="faster_rcnn", size=128, top_n=30)
    printed, outputs = net.run(astronaut, "--draw", "drawn.png")
    same(outputs, net.reference())
    count = int(outputs["count"][0])
    rows = [line.split() for line in printed.splitlines()[1:]]
    assert 0 < len(rows) == min(count, 20)
    label, score, *box = rows[0]
    assert int(label) == outputs["labels"][0, 0]
    assert float(score) == pytest.approx(outputs["scores"][0, 0], abs=1e-4)
    # In the pixels of the picture, which the network gets four times smaller.
    np.testing.assert_allclose(np.array(box, float), outputs["boxes"][0, 0] * 4, atol=0.06)
    drawn = np.asarray(Image.open(net.folder / "drawn.png"))
    rgb = read_picture().rgb
    assert drawn.shape == rgb.shape
    assert 0 < (drawn != rgb).any(axis=2).mean() < 0.5
    # The height and width of the network are fixed: a picture of another shape is stretched.
    wide = net.run(odd_picture)[1]
    same(wide, net.reference(image=odd_picture, size=None, input="1x3x128x128"))


@pytest.mark.parametrize("detections", ["padded", "dynamic"])
def test_a_detector_of_torchvision(tmp_path, astronaut, detections):
    model = "ssdlite320_mobilenet_v3_large"
    net = Converted(tmp_path, model=model, detections=detections)
    printed, outputs = net.run(astronaut, "--top", "2")
    same(outputs, net.reference())
    assert ("count" in outputs) == (detections == "padded")
    assert len(printed.splitlines()) == 3


DETECTOR = """
import torchvision
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

def make():
    backbone = torchvision.models.mobilenet_v2().features
    backbone.out_channels = 1280
    anchors = AnchorGenerator(sizes=((32, 64),), aspect_ratios=((0.5, 1.0),))
    pool = MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2)
    options = {"box_detections_per_img": 5, "rpn_post_nms_top_n_test": 20}
    return FasterRCNN(
        backbone, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, **options
    )
"""


def test_a_detector_of_ones_own_file(tmp_path, astronaut, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(DETECTOR)
    net = Converted(tmp_path, model="own.py:make", size=None, input="1x3x64x96")
    printed, outputs = net.run(astronaut, "--draw", str(tmp_path / "drawn.png"))
    same(outputs, net.reference())
    assert len(printed.splitlines()) == 1 + outputs["count"][0] > 1
    assert (tmp_path / "drawn.png").is_file()


def script_of(folder, detector):
    """Return the script of a detector as a module."""
    steps = Preprocess("stretch", "RGB", 255.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = (TensorInput("images", (1, 3, 300, 300), "float32"),)
    report = Report("rtx-1.7", detector, "fp32", "host", (), preprocess=steps)
    (folder / RUN_FILE).write_text(script(report._replace(inputs=Inputs(images)), None))
    spec = importlib.util.spec_from_file_location("run_detector", folder / RUN_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_box_narrower_than_a_pixel_is_drawn(tmp_path):
    # In Faster R-CNN R50-C4 a width is x2 - x1 + 1, so x2 may be less than x1.
    module = script_of(tmp_path, "faster_rcnn")
    module.draw(
        [(0.9, 3, [20.5, 10.0, 20.0, 30.0])], Image.new("RGB", (60, 40)), tmp_path / "x.png"
    )
    assert np.asarray(Image.open(tmp_path / "x.png"))[20].any()


@pytest.mark.parametrize(("count", "rows"), [({"count": np.array([2])}, 2), ({}, 4)])
def test_padding_of_a_torchvision_detector_is_left_out(tmp_path, count, rows):
    module = script_of(tmp_path, "ssd300_vgg16")
    outputs = {
        "boxes": np.ones((4, 4), np.float32),
        "scores": np.array([0.9, 0.5, 0.0, 0.0], np.float32),
        "labels": np.array([3, 1, 0, 0]),
    }
    found = module.detections({**outputs, **count}, Image.new("RGB", (600, 300)))
    assert len(found) == rows
    assert found[0][1:] == (3, [2.0, 1.0, 2.0, 1.0])


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return Converted(tmp_path, model="nets.py:Gather", input="x=2..5x8,ids=3:int64:8")


def test_a_model_of_ones_own_takes_two_inputs_from_a_file(own):
    model = loaded(own.request)
    np.savez(own.folder / "inputs.npz", **inputs_of(model))
    printed, outputs = own.run("--inputs", "inputs.npz")
    same(outputs, outputs_of(model))
    value = outputs["picked"]
    figures = f"min {value.min():.6g}, mean {value.astype(float).mean():.6g}, max {value.max():.6g}"
    shape = list(value.shape)
    assert printed.splitlines()[0] == f"picked: float32 {shape}, {figures}"
    assert len(printed.splitlines()) == 3


def test_random_inputs_are_the_same_for_a_seed(own):
    one, again, other = (own.run("--seed", seed)[1] for seed in "112")
    same(one, again)
    assert not np.array_equal(one["picked"], other["picked"])


NAMES = """\
from torch import nn

class Names(nn.Module):
    def forward(self, x):
        return {"file": x + 1, "allow_pickle": x + 2, "self": x + 3, "args": x + 4}
"""


def test_outputs_may_have_the_names_of_numpys_arguments(tmp_path, monkeypatch):
    (tmp_path / "names.py").write_text(NAMES)
    monkeypatch.chdir(tmp_path)
    net = Converted(tmp_path, model="names.py:Names", input="2x3")
    _, outputs = net.run("--seed", "3")
    assert list(outputs) == ["file", "allow_pickle", "self", "args"]
    np.testing.assert_allclose(outputs["file"] + 1, outputs["allow_pickle"])
    _write(tmp_path / "engine.npz", outputs)
    with np.load(tmp_path / "engine.npz") as archive:
        same({name: archive[name] for name in archive.files}, outputs)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros((2, 8), np.float32)}, "has ['x']; the model takes ['ids', 'x']"),
        (
            {"x": np.zeros((6, 8), np.float32), "ids": np.zeros(3, np.int64)},
            "x is float32 [6, 8]; the model takes float32 [2..5 x 8]",
        ),
        (
            {"x": np.zeros((2, 8), np.float32), "ids": np.zeros(3, np.int32)},
            "ids is int32 [3]; the model takes int64 [3]",
        ),
        (
            {"x": np.zeros((2, 8), object), "ids": np.zeros(3, np.int64)},
            "inputs.npz is not an .npz file of plain arrays",
        ),
    ],
)
def test_inputs_that_do_not_fit_are_named(own, values, message):
    np.savez(own.folder / "inputs.npz", **values)
    done = own.start("--inputs", "inputs.npz")
    assert done.returncode == 1
    assert done.stderr.startswith("run.py: error: ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def onnx_file(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3, 8, 12])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    file = tmp_path / "net.onnx"
    onnx.save(model, str(file))
    return str(file)


def test_an_onnx_file_runs_on_values(tmp_path, onnx_file):
    net = Converted(tmp_path, model=onnx_file, input="x=2x3x8x12")
    np.savez(net.folder / "inputs.npz", **inputs_of(loaded(net.request)))
    printed, outputs = net.run("--inputs", "inputs.npz")
    same(outputs, net.reference())
    assert printed.startswith("y: float32 [2, 3, 8, 12], min 0, ")


def test_an_onnx_file_that_was_given_a_picture_takes_pictures(tmp_path, onnx_file, odd_picture):
    net = Converted(tmp_path, model=onnx_file, input="x=2x3x8x12", image=odd_picture)
    same(net.run(odd_picture)[1], net.reference())


def test_help_names_the_options(classifier):
    done = classifier.start("--help")
    assert done.returncode == 0
    for word in (
        "squeezenet1_1",
        "picture",
        "--with {onnxruntime,tensorrt}",
        "--plugins",
        "--save",
    ):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("no.png", [], "cannot read no.png"),
        ("run.py", [], "cannot read run.py"),
        ("fine", ["--with", "tensorrt"], "model.engine not found; copy it beside run.py"),
    ],
)
def test_what_is_missing_is_named(classifier, astronaut, name, words, message):
    done = classifier.start(astronaut if name == "fine" else name, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("run.py: error: ")
    assert message in done.stderr


def test_without_a_gpu_tensorrt_is_refused(classifier, astronaut, tmp_path):
    if first_device() is not None:
        pytest.skip("this machine has a GPU")
    for name in (RUN_FILE, "model.onnx"):
        shutil.copy(classifier.folder / name, tmp_path)
    (tmp_path / "model.engine").write_bytes(b"plan")
    command = [sys.executable, "-I", tmp_path / RUN_FILE, astronaut]
    done = subprocess.run([*command, "--with", "tensorrt"], capture_output=True, text=True)
    message = "run.py: error: no GPU with NVIDIA's driver here: use --with onnxruntime\n"
    assert done.stderr == message
    assert subprocess.run(command, capture_output=True).returncode == 0


def test_the_model_must_be_beside_the_script(classifier, astronaut, tmp_path):
    shutil.copy(classifier.folder / RUN_FILE, tmp_path)
    done = subprocess.run(
        [sys.executable, "-I", tmp_path / RUN_FILE, astronaut], capture_output=True, text=True
    )
    assert f"{tmp_path}/model.onnx not found; copy it beside run.py" in done.stderr


def test_the_script_imports_neither_torch_nor_trtyard(classifier):
    tree = ast.parse((classifier.folder / RUN_FILE).read_text())
    imports = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imports.add(node.module)
        elif isinstance(node, ast.Import):
            imports.update(one.name.split(".")[0] for one in node.names)
    ours = {"argparse", "ctypes", "importlib", "os", "sys", "pathlib", "zipfile"}
    assert imports - ours == {"numpy", "PIL", "onnxruntime"}


def test_every_call_of_tensorrt_is_one_that_this_release_has(classifier):
    from trtyard.pipeline.tensorrt.api import trt

    kinds = {
        "trt": trt, "engine": trt.ICudaEngine, "context": trt.IExecutionContext,
        "runtime": trt.Runtime,
    }  # fmt: skip
    tree = ast.parse((classifier.folder / RUN_FILE).read_text())
    used = {
        (node.value.id, node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    found = {(name, one) for name, one in used if name in kinds}
    assert ("context", "execute_async_v3") in found
    for name, attribute in found:
        assert hasattr(kinds[name], attribute), f"{name}.{attribute}"


class HostMemory:
    """Takes the place of the script's Gpu: its memory is this process's."""

    stream = 7

    def __init__(self):
        self.kept = []

    def memory(self, size):
        self.kept.append(ctypes.create_string_buffer(size))
        return ctypes.addressof(self.kept[-1])

    def copy_in(self, address, value):
        ctypes.memmove(address, value.ctypes.data, value.nbytes)

    def copy_out(self, value, address):
        ctypes.memmove(value.ctypes.data, address, value.nbytes)

    def call(self, name, *arguments):
        assert name == "cuStreamSynchronize"


class DoublingContext:
    """Takes the place of an execution context whose engine doubles x."""

    def __init__(self):
        self.addresses = {}

    def set_input_shape(self, name, shape):
        self.shape = shape
        return shape[1:] == (8,)

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        count = int(np.prod(self.shape))
        x, y = ((ctypes.c_float * count).from_address(self.addresses[name]) for name in "xy")
        y[:] = [value * 2 for value in x]
        return stream == HostMemory.stream


def stand_in_tensorrt(loaded):
    modes = types.SimpleNamespace(INPUT=1, OUTPUT=2)
    engine = types.SimpleNamespace(
        num_io_tensors=2,
        get_tensor_name=lambda index: "xy"[index],
        get_tensor_mode=lambda name: modes.INPUT if name == "x" else modes.OUTPUT,
        get_tensor_dtype=lambda name: "FLOAT",
        create_execution_context=DoublingContext,
    )
    runtime = types.SimpleNamespace(
        deserialize_cuda_engine=lambda plan: engine if plan == b"plan" else None
    )
    module = types.ModuleType("tensorrt_rtx_bindings")
    vars(module).update(
        TensorIOMode=modes,
        Logger=type("Logger", (), {"WARNING": 2, "__init__": lambda self, severity: None}),
        Runtime=lambda logger: runtime,
        nptype=lambda kind: np.float32,
        get_plugin_registry=lambda: types.SimpleNamespace(
            load_library=lambda file: loaded.append(file) or (1 if "good" in file else None)
        ),
        __version__="1.7",
        __spec__=importlib.machinery.ModuleSpec("tensorrt_rtx_bindings", None),
    )
    return module


@pytest.fixture
def with_tensorrt(own, monkeypatch):
    """Return the script as a module, with stand-ins for TensorRT and the GPU."""
    spec = importlib.util.spec_from_file_location("run_script", own.folder / RUN_FILE)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.loaded = []
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", stand_in_tensorrt(script.loaded))
    monkeypatch.setattr(HostMemory, "is_there", staticmethod(lambda: True), raising=False)
    monkeypatch.setattr(script, "Gpu", HostMemory)
    script.ENGINE.write_bytes(b"plan")
    return script


X = np.arange(16, dtype=np.float32).reshape(2, 8)


def test_the_engine_gets_inputs_and_gives_outputs(with_tensorrt):
    outputs = with_tensorrt.run_tensorrt({"x": X}, None)
    assert list(outputs) == ["y"]
    np.testing.assert_array_equal(outputs["y"], X * 2)


def test_plugins_are_loaded_by_their_whole_path(with_tensorrt):
    with_tensorrt.run_tensorrt({"x": X}, "good.so")
    assert with_tensorrt.loaded == [str(Path("good.so").resolve())]
    with pytest.raises(SystemExit, match=r"TensorRT cannot load bad\.so"):
        with_tensorrt.run_tensorrt({"x": X}, "bad.so")


def test_an_engine_that_cannot_run_is_an_error(with_tensorrt):
    with pytest.raises(SystemExit, match=r"the engine does not take x \[2, 4\]"):
        with_tensorrt.run_tensorrt({"x": X[:, :4]}, None)
    with_tensorrt.ENGINE.write_bytes(b"of another release")
    with pytest.raises(SystemExit, match=r"TensorRT 1\.7 cannot load .*model\.engine"):
        with_tensorrt.run_tensorrt({"x": X}, None)
    with_tensorrt.NEEDS_PLUGINS = True
    with pytest.raises(SystemExit, match=r"--plugins libtrtyard_plugins_v3\.so"):
        with_tensorrt.run_tensorrt({"x": X}, None)


def test_tensorrt_is_the_default_with_an_engine_and_a_gpu(with_tensorrt, monkeypatch):
    assert with_tensorrt.usable_runtime(None) == "tensorrt"
    monkeypatch.setattr(with_tensorrt, "NEEDS_PLUGINS", True)
    assert with_tensorrt.usable_runtime(None) == "onnxruntime"
    assert with_tensorrt.usable_runtime("plugins.so") == "tensorrt"
    monkeypatch.setattr(HostMemory, "is_there", staticmethod(lambda: False))
    assert with_tensorrt.usable_runtime("plugins.so") == "onnxruntime"
    monkeypatch.setattr(HostMemory, "is_there", staticmethod(lambda: True))
    with_tensorrt.ENGINE.unlink()
    assert with_tensorrt.usable_runtime("plugins.so") == "onnxruntime"
