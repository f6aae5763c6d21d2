"""Run an ONNX file in ONNX Runtime on the CPU."""

import os
from pathlib import Path
from typing import Dict, Sequence

# Read when onnxruntime is imported: else it writes an identifier and a database of events into the
# user's home, and sends them when it can.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

from trtyard.pipeline.errors import ConversionError
from trtyard.pipeline.known_failures import mend_for

_ERRORS_ONLY = 3


def run_onnx(
    file: Path, inputs: Dict[str, np.ndarray], output_names: Sequence[str]
) -> Dict[str, np.ndarray]:
    """Return the outputs by name.

    Raises:
        ConversionError: ONNX Runtime refuses the file or cannot run it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    # The arena would keep the largest intermediate of every shape until the session ends.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        values = session.run(list(output_names), inputs)
    except Exception as error:  # its exceptions share no base class of their own
        raise ConversionError(
            f"ONNX Runtime cannot run {file.name}: {str(error).strip()}", mend_for(str(error))
        ) from error
    return dict(zip(output_names, values))
