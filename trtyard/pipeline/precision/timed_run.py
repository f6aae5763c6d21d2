"""Run a reduced-precision file in ONNX Runtime on the CPU, and time it."""

import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

import numpy as np

from trtyard.core.errors import ConversionError
from trtyard.pipeline.onnx_model.versions import session


class TimedRun(NamedTuple):
    """Outputs for each set of inputs, and the shortest time of one run."""

    outputs: List[Dict[str, np.ndarray]]
    seconds: float


def run_timed(
    file: Path,
    inputs: Sequence[Dict[str, np.ndarray]],
    output_names: Sequence[str],
    is_fused: bool = True,
) -> TimedRun:
    """Run the file on each set of ``inputs``.

    Args:
        file: the ONNX file.
        inputs: arrays by name; those that the file does not have are left out.
        output_names: what is returned.
        is_fused: let ONNX Runtime fuse Q/DQ nodes with their neighbours. What it fuses is computed
            in integers as this CPU does it, which TensorRT does not; and of fp8 files 1.32 makes
            wrong results (AlexNet: 3.5 times too large).

    Raises:
        ConversionError: ONNX Runtime refuses the file or cannot run it.
    """
    try:
        ready = session(file, is_fused=is_fused)
        names = [one.name for one in ready.get_inputs()]
        outputs, seconds = [], []
        for each in inputs:
            given = {name: each[name] for name in names if name in each}
            start = time.perf_counter()
            values = ready.run(list(output_names), given)
            seconds.append(time.perf_counter() - start)
            outputs.append(dict(zip(output_names, values)))
    except Exception as error:  # its exceptions share no base class of their own
        words = f"ONNX Runtime cannot run {file.name}: {str(error).strip()}"
        raise ConversionError(words, log=str(error)) from error
    return TimedRun(outputs, min(seconds))
