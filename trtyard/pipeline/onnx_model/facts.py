"""Finds the node that a log names in an ONNX file, and prints its facts as JSON."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import onnx

from trtyard.core.errors import UsageError
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.onnx_model.outside_data import outside_tensors
from trtyard.pipeline.onnx_model.symptoms import model_symptoms

_MOST_NODES = 5


def run(options: argparse.Namespace) -> int:
    """Print the nodes that are meant with their origins, and the symptoms of the whole file."""
    model = read_model(options.onnx)
    nodes = nodes_meant(model, options.node, options.number, options.op)
    facts: Dict[str, Any] = {
        "nodes": [
            {"op": node.op_type, "node": node.name, "origin": origin_of(node) or ""}
            for node in nodes[:_MOST_NODES]
        ],
        "more": max(len(nodes) - _MOST_NODES, 0),
        "symptoms": [symptom._asdict() for symptom in model_symptoms(model)],
    }
    sys.stdout.write(json.dumps(facts) + "\n")
    return 0


def read_model(file: Path) -> onnx.ModelProto:
    """Read an ONNX file without its external data.

    Raises:
        UsageError: it is missing or is none.
    """
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf's errors have no base class of their own
        raise UsageError(f"cannot read {file} as ONNX: {error}") from error
    if not model.graph.node:
        raise UsageError(f"{file} is not an ONNX file: it has no nodes")
    return model


def read_whole(file: Path) -> onnx.ModelProto:
    """Read an ONNX file with the weights that lie in files beside it.

    Raises:
        UsageError: it is none, or such a file is missing or cut short.
    """
    outside = data_files(read_model(file))
    missing = [name for name in outside if not (file.parent / name).is_file()]
    if missing:
        raise UsageError(
            f"{file} has its weights in another file, which is missing: {missing[0]}",
            f"copy it into {file.resolve().parent}, under that name",
        )
    try:
        return onnx.load(str(file))
    except Exception as error:  # of protobuf's, onnx's and the system's classes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the weights of {file} cannot be read from {', '.join(outside) or 'it'}: {reason}",
            "copy the files again, all of one export",
        ) from error


def data_files(model: onnx.ModelProto) -> List[str]:
    """Return the names of the files beside the model's own that hold its weights."""
    return list(
        dict.fromkeys(
            entry.value
            for tensor in outside_tensors(model)
            for entry in tensor.external_data
            if entry.key == "location"
        )
    )


def nodes_meant(
    model: onnx.ModelProto, name: str, number: Optional[int], op: str
) -> List[onnx.NodeProto]:
    """Return the nodes that a log means: by name, else by number where the op fits, else by op."""
    nodes = list(model.graph.node)
    named = [node for node in nodes if name and node.name == name]
    if named:
        return named
    if (
        number is not None
        and 0 <= number < len(nodes)
        and nodes[number].op_type == (op or nodes[number].op_type)
    ):
        return [nodes[number]]
    return [node for node in nodes if op and node.op_type == op]
