"""Padded two-stage detectors in fp16 and bf16: their files run, and become engines."""

import onnx
import pytest
import torch

from trtyard.pipeline.conversion import outputs_of
from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.torchvision_detector import load_detector
from trtyard.pipeline.models.weights import Choice
from trtyard.pipeline.onnx_model.runner import run_onnx
from trtyard.pipeline.precision.accuracy import Pair, accuracy_of
from trtyard.pipeline.precision.bfloat16 import to_bfloat16, twin_of
from trtyard.pipeline.precision.budgets import SEEDED_BUDGETS
from trtyard.pipeline.precision.graph import constants_as_initializers, name_nodes
from trtyard.pipeline.precision.half import ops_without_kernel, to_half
from trtyard.pipeline.precision.kept import kept_in_bfloat16, kept_nodes
from trtyard.pipeline.tensorrt.engine import build_engine

PLUGINS = ["MultiscaleRoIAlign", "MultiscaleRoIAlign", "PaddedNMS", "PaddedNMS"]


@pytest.fixture(scope="module")
def model():
    return load_detector("maskrcnn_resnet50_fpn", Choice(None, 0), None, 64)


@pytest.fixture(scope="module")
def graph(model, tmp_path_factory):
    return graph_of(model, tmp_path_factory.mktemp("mask") / "model.onnx")


def graph_of(model, file):
    """Return the exported file, with named nodes."""
    names = model.input_names, model.output_names
    with torch.no_grad():
        export_onnx(model.to_export, model.inputs, *names, model.exporter, 18, file)
    whole = onnx.load(str(file))
    name_nodes(whole.graph)
    constants_as_initializers(whole.graph)
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_masks_become_engines_and_detections_agree(precision, model, graph, tmp_path):
    kept = kept_nodes(graph.graph, True, ops_without_kernel())
    if precision == "bf16":
        kept = kept_in_bfloat16(graph.graph, kept)
    reduced = (to_half if precision == "fp16" else to_bfloat16)(graph, kept).model
    file, runnable = tmp_path / "model.onnx", tmp_path / "runnable.onnx"
    onnx.save(reduced, str(file))
    onnx.save(reduced if precision == "fp16" else twin_of(graph, kept), str(runnable))
    found = run_onnx(runnable, {"images": model.inputs[0].numpy()}, model.output_names)
    pair = Pair("onnxruntime", [outputs_of(model)], [found])
    accuracy = accuracy_of(model.kind, pair, SEEDED_BUDGETS[precision], is_trained=False)
    (detections,) = [one for one in accuracy.agreements if one.measure == "detections"]
    assert detections.passed, detections
    engine = build_engine(file, tmp_path / "model.engine")
    assert sorted(engine.plugin_layers) == PLUGINS


@pytest.mark.slow
def test_keypoints_become_a_bf16_engine(tmp_path):
    model = load_detector("keypointrcnn_resnet50_fpn", Choice(None, 0), None, 64)
    file = tmp_path / "model.onnx"
    graph = graph_of(model, file)
    kept = kept_in_bfloat16(graph.graph, kept_nodes(graph.graph, True, ops_without_kernel()))
    assert "ConvTranspose" in {node.op_type for node in graph.graph.node if node.name in kept}
    onnx.save(to_bfloat16(graph, kept).model, str(file))
    engine = build_engine(file, tmp_path / "model.engine")
    assert sorted(engine.plugin_layers) == PLUGINS
