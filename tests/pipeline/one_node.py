"""Run one custom op as a node with its function body, in ONNX Runtime."""

import onnx
import onnxruntime
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION, function


def one_node_model(
    op_type, inputs, output_types_and_ranks, opset, element_type=None, of_element=0, **attributes
):
    """Return a model of one custom node with its function body.

    With ``element_type`` the first ``of_element`` inputs are converted to it, and a float output
    back to float32: numpy has no bfloat16.
    """
    names = [f"input_{index}" for index in range(len(inputs))]
    outputs = [f"output_{index}" for index in range(len(output_types_and_ranks))]
    given, taken, before, behind = list(names), list(outputs), [], []
    if element_type is not None:
        for index in range(of_element):
            given[index] = f"converted_{index}"
            before.append(helper.make_node("Cast", [names[index]], [given[index]], to=element_type))
        for index, (of_type, _) in enumerate(output_types_and_ranks):
            if of_type == TensorProto.FLOAT:
                taken[index] = f"raw_{index}"
                behind.append(
                    helper.make_node("Cast", [taken[index]], [outputs[index]], to=of_type)
                )
    node = helper.make_node(op_type, given, taken, domain=DOMAIN, **attributes)
    graph = helper.make_graph(
        [*before, node, *behind],
        "one_node",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
            )
            for name, value in zip(names, inputs)
        ],
        [
            helper.make_tensor_value_info(name, of_type, [None] * rank)
            for name, (of_type, rank) in zip(outputs, output_types_and_ranks)
        ],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=[function(op_type, opset)],
        ir_version=9,
    )


def run_in_onnxruntime(op_type, inputs, output_types_and_ranks, opset=18, **choices):
    model = one_node_model(op_type, inputs, output_types_and_ranks, opset, **choices)
    onnx.checker.check_model(model, full_check=True)
    return run_model(model, inputs)


def run_model(model, inputs, library=None):
    """Return the outputs of ``model`` in ONNX Runtime on the CPU, its inputs in order.

    ``library`` has custom ops, which run in place of functions.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if library is not None:
        options.register_custom_ops_library(str(library))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {each.name: value for each, value in zip(model.graph.input, inputs)})


def nms_by_function(boxes, scores, opset=18, **choices):
    return run_in_onnxruntime(
        "PaddedNMS",
        [boxes, scores],
        [(TensorProto.INT32, 2), (TensorProto.INT32, 1)],
        opset,
        **choices,
    )
