"""Run an ONNX file in ONNX Runtime on the CPU."""

import os
from pathlib import Path
from typing import Dict, Sequence

# Read when onnxruntime is imported: else it writes an identifier and a database of events into the
# user's home, and sends them when it can.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_model.origin import describe, nodes_named_in
from trtyard.pipeline.onnx_model.versions import session

_MOST_NODES = 3


def run_onnx(
    file: Path, inputs: Dict[str, np.ndarray], output_names: Sequence[str]
) -> Dict[str, np.ndarray]:
    """Return the outputs by name. Of the inputs the file takes those that it has.

    Raises:
        ConversionError: ONNX Runtime refuses the file or cannot run it.
    """
    try:
        ready = session(file)
        given = {one.name: inputs[one.name] for one in ready.get_inputs() if one.name in inputs}
        values = ready.run(list(output_names), given)
    except Exception as error:  # its exceptions share no base class of their own
        words = f"ONNX Runtime cannot run {file.name}: {str(error).strip()}{_nodes(error, file)}"
        raise ConversionError(words, log=str(error)) from error
    return dict(zip(output_names, values))


def _nodes(error: Exception, file: Path) -> str:
    """Return the nodes that the error names, with the Python lines that they come from."""
    try:
        nodes = nodes_named_in(str(error), file)
    except Exception:  # no ONNX at all, which the error has said
        return ""
    return "".join(f"\n{describe(node)}" for node in nodes[:_MOST_NODES])
