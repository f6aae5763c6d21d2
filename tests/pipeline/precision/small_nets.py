"""Small seeded models as ONNX, and what the tests of the precisions do with them."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from trtyard.pipeline.models.model import Model, Weights
from trtyard.pipeline.onnx_model.versions import session
from trtyard.pipeline.precision.graph import constants_as_initializers, name_nodes


def initializer(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def model_of(nodes, inputs, outputs, initializers=(), opset=18, domains=(), functions=()):
    """Return a checked model whose nodes have names and no constants among them."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        list(initializers),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    model = helper.make_model(graph, opset_imports=imports, functions=list(functions))
    model.ir_version = 9
    model = onnx.shape_inference.infer_shapes(model)
    name_nodes(model.graph)
    constants_as_initializers(model.graph)
    onnx.checker.check_model(model)
    return model


def conv_net(seed=0, scale=1.0):
    """Return Conv, Relu, mean, Gemm and Softmax: float32 [1, 3, 8, 8] to [1, 4]."""
    random = np.random.RandomState(seed)
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "g", "h"], ["l"], "head"),
        helper.make_node("Softmax", ["l"], ["y"], "softmax"),
    ]
    weights = [
        initializer("w", (random.randn(8, 3, 3, 3) * scale).astype("f")),
        initializer("b", random.randn(8).astype("f")),
        initializer("g", (random.randn(8, 4) * 0.3).astype("f")),
        initializer("h", random.randn(4).astype("f")),
    ]
    shape = ("x", TensorProto.FLOAT, [1, 3, 8, 8])
    return model_of(nodes, [shape], [("y", TensorProto.FLOAT, [1, 4])], weights)


def pictures(count=16, seed=1, shape=(1, 3, 8, 8)):
    random = np.random.RandomState(seed)
    return [{"x": random.randn(*shape).astype("f")} for _ in range(count)]


def run(model, inputs, folder, is_fused=True):
    file = folder / "run.onnx"
    onnx.save(model, str(file))
    return session(file, is_fused=is_fused).run(None, inputs)


def error(reference, candidate):
    return float(np.linalg.norm(reference - candidate) / np.linalg.norm(reference))


def types_of(model):
    """Return op type, input types and output types of each node, as onnx infers them."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = inferred.graph
    known = {
        each.name: each.type.tensor_type.elem_type
        for each in [*graph.input, *graph.value_info, *graph.output]
    }
    known.update({each.name: each.data_type for each in graph.initializer})
    return {node.name: [known.get(name) for name in node.input if name] for node in graph.node}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.norm(self.conv(x).relu().mean((2, 3))))


def own_model(module=None, names=("x",), inputs=None, prepare=None):
    inputs = inputs or (torch.zeros(1, 3, 8, 8),)
    return Model(
        "nets.py:net",
        "tensor",
        (module or Net()).eval(),
        names,
        ("y",),
        inputs,
        Weights("random", "0" * 64),
        None,
        (1.0, 1.0),
        prepare=prepare,
    )
