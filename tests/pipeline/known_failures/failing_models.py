import traceback

from onnx import TensorProto, helper

from trtyard.known_failures.explanation import explain


def tensor(name, shape, of_type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, of_type, shape)


def model_of(nodes, inputs, outputs, *, opset=18, constants=(), ir_version=10, domains=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(constants))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(one, 1) for one in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def traceback_of(action):
    """Return what a terminal shows of the exception that ``action`` ends with."""
    try:
        action()
    except Exception:
        return traceback.format_exc()
    raise AssertionError("nothing was raised")


def first(log):
    """Return the first explanation of a log, which must have one."""
    found = explain(log)
    assert found, f"nothing is known about: {log}"
    return found[0]
