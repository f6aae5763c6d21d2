"""Exports topk and arange at opset 10 with the torch that runs this, and prints what came out.

Runs on Python 3.6 with torch 1.4. The words say what to do one after the other: export, patched,
upstream.
"""

import io
import json
import sys

import onnx
import onnxruntime
import torch

from trtyard.pipeline.torch_support.patches import is_patched, symbolics


class Net(torch.nn.Module):
    def forward(self, values):
        best, index = torch.topk(values, 3, dim=1)
        return best, index + torch.arange(values.shape[1])[:3]


class Ranges(torch.nn.Module):
    """Every form of arange, with an end that depends on the input's shape.

    As shipped, torch 1.4 writes one number too few where the step leaves a remainder.
    """

    def forward(self, values):
        count = values.shape[1]
        return (
            torch.arange(count),
            torch.arange(1, count, dtype=torch.int32),
            torch.arange(1, count, 2, dtype=torch.float32),  # 4 / 2: without a remainder
        )


def exported(net, inputs, **options):
    written = io.BytesIO()
    torch.onnx.export(net, inputs, written, opset_version=10, **options)
    return onnx.load_from_string(written.getvalue())


def is_constant(graph, name):
    """Tell whether TensorRT's parser takes the tensor for weights."""
    made = [node.op_type for node in graph.node if name in node.output]
    return made == ["Constant"] or name in [each.name for each in graph.initializer]


def facts():
    values = torch.tensor([[4.0, 1.0, 5.0, 2.0, 3.0]])
    dynamic = {"input_names": ["values"], "dynamic_axes": {"values": [1]}}
    model = exported(Net(), values)
    ranges = exported(Ranges(), values, **dynamic)
    found = {"is_patched": is_patched()}
    (node,) = [each for each in model.graph.node if each.op_type == "TopK"]
    found["topk_inputs"] = len(node.input)
    found["topk_k"] = {each.name: each.i for each in node.attribute}.get("k")
    found["k_is_constant"] = [is_constant(model.graph, name) for name in node.input[1:]]
    ops = [each.op_type for each in ranges.graph.node]
    found["ranges"], found["nonzeros"] = ops.count("Range"), ops.count("NonZero")
    try:
        onnx.checker.check_model(model)
        found["valid"] = True
    except onnx.checker.ValidationError:
        found["valid"] = False
    found["runs"] = runs(model, Net(), values) and runs(ranges, Ranges(), values)
    return found


def runs(model, net, values):
    """Tell whether ONNX Runtime takes the model; what it then computes must be torch's."""
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString())
    except Exception as error:  # onnxruntime 1.1 has no common class for it
        sys.stderr.write(f"{error}\n")
        return False
    outputs = session.run(None, {session.get_inputs()[0].name: values.numpy()})
    for output, expected in zip(outputs, net(values)):
        assert output.tolist() == expected.tolist(), (output, expected)
    return True


results = []
for word in sys.argv[1:]:
    if word == "export":
        results.append(facts())
    else:
        with symbolics(patched=word == "patched"):
            results.append(facts())
sys.stdout.write(json.dumps(results))
