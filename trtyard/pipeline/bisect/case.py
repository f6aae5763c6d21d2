"""The smallest case of a fault: its nodes as an ONNX file, their inputs, and a short script."""

from pathlib import Path
from typing import Tuple

import numpy as np
import onnx

from trtyard.pipeline.artifacts import BISECT
from trtyard.pipeline.bisect.faults import Fault
from trtyard.pipeline.bisect.pieces import Graph

_RIGHT = "pytorch"  # in the .npz: PyTorch's value; the inputs are input_0, input_1, ...

_SCRIPT = '''"""{title}"""

import numpy as np
import onnxruntime

values = np.load("{name}.npz")  # input_0, ... and PyTorch's own output
session = onnxruntime.InferenceSession("{name}.onnx", providers=["CPUExecutionProvider"])
inputs = {{one.name: values[f"input_{{n}}"] for n, one in enumerate(session.get_inputs())}}
(found,) = session.run(None, inputs)
difference = np.abs(found.astype(np.float64) - values["{right}"])
worst = np.unravel_index(difference.argmax(), difference.shape)
print("largest difference:", difference.max(), "at", [int(each) for each in worst])
print("PyTorch:", values["{right}"][worst], "ONNX Runtime:", found[worst])
'''


def write_case(fault: Fault, graph: Graph, folder: Path, number: int) -> Tuple[str, ...]:
    """Write the case into ``folder`` and return its files; none if the inputs were too large."""
    evidence = fault.suspect.evidence
    if evidence is None or evidence.right.shape != evidence.own.shape:
        return ()
    region = fault.suspect.region
    model = graph.part(region.nodes, evidence.inputs, [fault.suspect.name])
    for node in model.graph.node:
        node.doc_string = ""  # its stack names folders of this machine
        if "metadata_props" in node.DESCRIPTOR.fields_by_name:
            node.ClearField("metadata_props")
    name = f"case{number}"
    place = folder / BISECT
    place.mkdir(exist_ok=True)
    onnx.save(model, str(place / f"{name}.onnx"))
    values = {
        f"input_{index}": evidence.inputs[each.name] for index, each in enumerate(model.graph.input)
    }
    values[_RIGHT] = evidence.right
    np.savez(str(place / f"{name}.npz"), **values)
    op = graph.nodes[fault.compared.node].op_type
    script = _SCRIPT.format(
        title=f"{op} in ONNX Runtime against PyTorch's value. Run it in this folder.",
        name=name,
        right=_RIGHT,
    )
    (place / f"{name}.py").write_text(script, encoding="utf-8")
    return tuple(f"{BISECT}/{name}.{kind}" for kind in ("onnx", "npz", "py"))
