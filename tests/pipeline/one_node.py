"""Run one custom op as a node with its function body, in ONNX Runtime."""

import onnx
import onnxruntime
from onnx import TensorProto, helper

from trtyard.pipeline.onnx_functions import DOMAIN, DOMAIN_VERSION, function


def run_in_onnxruntime(op_type, inputs, output_types_and_ranks, opset=18, **attributes):
    names = [f"input_{index}" for index in range(len(inputs))]
    outputs = [f"output_{index}" for index in range(len(output_types_and_ranks))]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, outputs, domain=DOMAIN, **attributes)],
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
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, DOMAIN_VERSION)],
        functions=[function(op_type, opset)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(zip(names, inputs)))


def nms_by_function(boxes, scores, opset=18, **attributes):
    return run_in_onnxruntime(
        "PaddedNMS",
        [boxes, scores],
        [(TensorProto.INT32, 2), (TensorProto.INT32, 1)],
        opset,
        **attributes,
    )
