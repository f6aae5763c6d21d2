"""Run an ONNX file in ONNX Runtime on the CPU."""

import os
from pathlib import Path
from typing import Dict, Sequence

# Read when onnxruntime is imported: else it writes an identifier and a database of events into the
# user's home, and sends them when it can.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

from trtyard.pipeline.explanation import conversion_error
from trtyard.pipeline.onnx_versions import session


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
        raise conversion_error(
            f"ONNX Runtime cannot run {file.name}: {str(error).strip()}", str(error)
        ) from error
    return dict(zip(output_names, values))
