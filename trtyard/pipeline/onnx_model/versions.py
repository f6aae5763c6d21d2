"""What older onnx and ONNX Runtime releases lack."""

import importlib.util
from pathlib import Path
from typing import Any, Optional, Tuple, Union

import onnx

# Model-local functions came with onnx 1.10.
HAS_FUNCTIONS = "functions" in onnx.ModelProto.DESCRIPTOR.fields_by_name
# onnxscript's optimizer, on rows whose exporter is dynamo.
CAN_FOLD = importlib.util.find_spec("onnx_ir") is not None

_ERRORS_ONLY = 3


def invalid_model_errors() -> Tuple[Any, ...]:
    """Return what the checker raises for a model that is not valid ONNX."""
    inference: Any = getattr(onnx.shape_inference, "InferenceError", RuntimeError)
    return onnx.checker.ValidationError, inference


CPU_PROVIDER, CUDA_PROVIDER = "CPUExecutionProvider", "CUDAExecutionProvider"


def session(
    model: Union[Path, bytes],
    is_fused: bool = True,
    timed_threads: Optional[int] = None,
    provider: str = CPU_PROVIDER,
) -> Any:
    """Return an ONNX Runtime session that says nothing but errors.

    Without ``is_fused`` nodes are folded and removed, but not fused into others.

    Args:
        model: the file, or a model's bytes.
        is_fused: whether nodes may be fused.
        timed_threads: for a session that is timed: its threads, and it keeps memory between runs
            as it does by default.
        provider: what runs it; without CUDA_PROVIDER the CPU.
    """
    import onnxruntime  # not above: its runner sets the environment for it first

    options = onnxruntime.SessionOptions()
    if timed_threads is None:
        # The arena would keep the largest intermediate of every shape until the session ends.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
    else:
        options.intra_op_num_threads = timed_threads
    if hasattr(options, "log_severity_level"):
        options.log_severity_level = _ERRORS_ONLY
    if not is_fused:
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_BASIC
    given = model if isinstance(model, bytes) else str(model)
    if runtime_release() >= (1, 3):  # the first that takes providers
        providers = list(dict.fromkeys((provider, CPU_PROVIDER)))
        return onnxruntime.InferenceSession(given, options, providers=providers)
    return onnxruntime.InferenceSession(given, options)


def runtime_release() -> Tuple[int, int]:
    """Return the release of ONNX Runtime, such as (1, 18)."""
    import onnxruntime

    version = onnxruntime.__version__.split(".")
    return int(version[0]), int(version[1])
