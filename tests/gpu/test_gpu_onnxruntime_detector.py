"""Whole detectors in ONNX Runtime's CUDA provider: the kernels inside a real graph."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402
from sanitizer import sanitizer  # noqa: E402

from trtyard.pipeline import ops  # noqa: E402
from trtyard.pipeline.export.exporter import export_onnx  # noqa: E402
from trtyard.pipeline.models.registry import load_model  # noqa: E402
from trtyard.pipeline.onnxruntime_cuda.process import Asked, running  # noqa: E402
from trtyard.pipeline.ops.contract import DOMAIN  # noqa: E402

ROOT = Path(__file__).parents[2]
SIDE = 256  # pixels
ONE_RUN = """
import sys
from pathlib import Path

import numpy as np

from trtyard.pipeline.onnxruntime_cuda.process import Asked, running

file, images, library = map(Path, sys.argv[1:])
with running(Asked(file, {"images": np.load(images)}, library)) as ran:
    print("detections:", int(ran.outputs["count"][0]))
"""


class Exported(NamedTuple):
    file: Path
    inputs: "dict[str, np.ndarray]"


@pytest.fixture(scope="module", params=["float32", "float16"])
def exported(request, gpu, tmp_path_factory) -> Exported:
    """Return Faster R-CNN R50-C4 with its kernels' inputs and outputs as further outputs."""
    model = load_model("faster_rcnn", input_shape=f"1x3x{SIDE}x{SIDE}", top_n=300)
    file = tmp_path_factory.mktemp("detector") / "model.onnx"
    names = model.input_names, model.output_names
    export_onnx(model.module, model.inputs, *names, "dynamo", 18, file)
    if request.param == "float16":
        file = half_of(file)
    inputs = zip(model.input_names, model.inputs)
    return Exported(file, {name: value.numpy() for name, value in inputs})


def half_of(file: Path) -> Path:
    from trtyard.pipeline.precision.half import prepare, to_half

    model = onnx.load(str(file))
    kept = prepare(model.graph, True)
    half = to_half(model, kept).model
    try:
        onnx.checker.check_model(half)
    except onnx.checker.ValidationError as error:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} converts to an invalid file: {error}")
    onnx.save(half, str(file))
    return file


def with_ops_as_outputs(file: Path) -> "tuple[Path, list[onnx.NodeProto], dict[str, np.ndarray]]":
    """Return a copy of the file with the values of its custom ops as outputs, those nodes, and
    the initializers by name."""
    model = onnx.load(str(file))
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    known = {one.name for one in model.graph.output} | set(constants)
    known |= {one.name for one in model.graph.input}
    for name in dict.fromkeys(name for node in nodes for name in (*node.input, *node.output)):
        if name not in known:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    copy = file.with_name("open.onnx")
    onnx.save(model, str(copy))
    return copy, nodes, constants


def computed(node: "onnx.NodeProto", values: "dict[str, np.ndarray]") -> "list[np.ndarray]":
    """Return what the torch op gives for the node's inputs."""
    given = [torch.from_numpy(values[name]).cuda() for name in node.input]
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "PaddedNMS":
        found = ops.padded_nms(*given, **attributes)
    else:
        assert node.op_type == "MaskRcnnROIAlign"
        names = ("output_height", "output_width", "spatial_scale", "sampling_ratio", "aligned")
        found = [ops.roi_align(*given, *(attributes[name] for name in names))]
    return [one.cpu().numpy() for one in found]


def test_ops_in_the_graph_equal_the_torch_ops(exported, onnxruntime_library) -> None:
    file, nodes, values = with_ops_as_outputs(exported.file)
    assert sorted({node.op_type for node in nodes}) == ["MaskRcnnROIAlign", "PaddedNMS"]
    with running(Asked(file, exported.inputs, onnxruntime_library)) as ran:
        values = {**values, **exported.inputs, **ran.outputs}
    ops.use_kernels(onnxruntime_library)
    try:
        for node in nodes:
            for name, wanted in zip(node.output, computed(node, values)):
                np.testing.assert_array_equal(values[name], wanted, node.op_type)
    finally:
        ops.use_kernels(None)


@pytest.mark.parametrize("exported", ["float32"], indirect=True)
def test_kernels_give_the_detections_of_the_bodies(exported, onnxruntime_library) -> None:
    with running(Asked(exported.file, exported.inputs)) as bodies:
        expected = bodies.outputs
    with running(Asked(exported.file, exported.inputs, onnxruntime_library)) as kernels:
        found = kernels.outputs
    assert int(expected["count"][0]) > 0
    np.testing.assert_array_equal(found["count"], expected["count"])
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["boxes"], expected["boxes"], atol=0.05)  # pixels


def test_memcheck_of_a_whole_run_finds_nothing(exported, onnxruntime_library, tmp_path) -> None:
    np.save(str(tmp_path / "images.npy"), exported.inputs["images"])
    words = [str(exported.file), str(tmp_path / "images.npy"), str(onnxruntime_library)]
    prefix = sanitizer("memcheck", "--target-processes", "all", "--report-api-errors", "no")
    done = subprocess.run(
        [*prefix, sys.executable, "-c", ONE_RUN, *words],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=str(ROOT),
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "ERROR SUMMARY: 0 errors" in done.stdout
    assert "detections:" in done.stdout
