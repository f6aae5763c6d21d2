"""A padded file has only nodes that ONNX Runtime's CUDA provider runs, so CUDA graphs are possible.

From docs/OperatorKernels.md of ONNX Runtime. The provider runs shape arithmetic on the CPU too.
"""

import onnx
import pytest
import torch
from onnx import TensorProto

from trtyard.pipeline.export.exporter import export_onnx
from trtyard.pipeline.models.torchvision_detector import load_detector
from trtyard.pipeline.models.weights import Choice

ON_THE_CPU = {"Shape", "Size", "ConstantOfShape", "NonZero", "NonMaxSuppression", "Range"}
# Of the ops whose kernels do not take every type.
KERNELS = {
    "Clip": {"FLOAT", "FLOAT16", "DOUBLE", "INT64"},
    "Pad": {"FLOAT", "FLOAT16", "DOUBLE", "BOOL"},
    "Tile": {"FLOAT", "FLOAT16", "DOUBLE", "INT32", "INT64"},
    "Where": {"FLOAT", "FLOAT16", "DOUBLE", "INT32", "INT64"},
    "ArgMax": {"FLOAT", "FLOAT16", "DOUBLE"},
    "Floor": {"FLOAT", "FLOAT16", "DOUBLE"},
}


def nodes_for_the_cpu(file):
    model = onnx.shape_inference.infer_shapes(onnx.load(str(file)))
    graph = model.graph
    types = {
        one.name: one.type.tensor_type.elem_type
        for one in [*graph.value_info, *graph.input, *graph.output]
    }
    types.update({one.name: one.data_type for one in graph.initializer})
    for node in graph.node:
        if node.op_type in ON_THE_CPU:
            yield node.op_type
        elif node.op_type in KERNELS:
            # The condition of Where has a type of its own.
            name = TensorProto.DataType.Name(types[node.input[node.op_type == "Where"]])
            if name not in KERNELS[node.op_type]:
                yield f"{node.op_type} of {name}"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ssdlite320_mobilenet_v3_large", None),
        ("retinanet_resnet50_fpn", 160),  # so that a level has more anchors than are taken
        ("fasterrcnn_mobilenet_v3_large_320_fpn", 96),
        pytest.param("fcos_resnet50_fpn", 64, marks=pytest.mark.slow),
        pytest.param("fasterrcnn_resnet50_fpn", 64, marks=pytest.mark.slow),
        pytest.param("maskrcnn_resnet50_fpn", 64, marks=pytest.mark.slow),
        pytest.param("keypointrcnn_resnet50_fpn", 64, marks=pytest.mark.slow),
    ],
)
def test_every_node_has_a_cuda_kernel(name, size, tmp_path):
    model = load_detector(name, Choice(None, 0), None, size)
    file = tmp_path / "model.onnx"
    names = model.input_names, model.output_names
    with torch.no_grad():
        export_onnx(model.to_export, model.inputs, *names, model.exporter, 18, file)
    assert list(nodes_for_the_cpu(file)) == []
