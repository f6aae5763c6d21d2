"""``plugins`` on the host: compile the plugins with the row's nvcc."""

from pathlib import Path

from trtyard.core.errors import UsageError
from trtyard.core.plugins.compile_plugins import (
    LIBRARY_NAME,
    ONNXRUNTIME,
    ONNXRUNTIME_HEADER,
    ONNXRUNTIME_LIBRARY_NAME,
    shells_for,
)
from trtyard.core.typed_paths import typed_path
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.row import Row
from trtyard.run.environment import make_environment
from trtyard.run.on_host import pipeline_variables
from trtyard.run.onnxruntime_headers import onnxruntime_headers
from trtyard.run.row_command import run_with_advice
from trtyard.system.processes import Word, run
from trtyard.system.uv import OUT, ROOT

TENSORRT = "tensorrt"


def compile_plugins(name: str, *, runtime: str, headers: str, out: str) -> int:
    """Compile the plugins of the row into ``out`` for ``runtime``; return the exit code.

    Args:
        name: a row or alias.
        runtime: ``tensorrt`` or ``onnxruntime``.
        headers: folder with the runtime's headers, or "": for TensorRT no C++ plugins then, for
            ONNX Runtime the locked package's.
        out: the library to write; "" for the default.
    """
    if runtime not in (TENSORRT, ONNXRUNTIME):
        raise UsageError(f"--for must be {TENSORRT} or {ONNXRUNTIME}, not {runtime!r}")
    row, lock = row_and_lock(name)
    if row.host_until != "engine":
        raise UsageError(
            f"row {row.name} compiles its plugins in its Docker image only",
            f"./run build --trt {row.name}",
        )
    folder = typed_path(headers) if headers else None
    if folder is not None:
        _check(folder, runtime, row)
    elif runtime == ONNXRUNTIME:
        folder = onnxruntime_headers()
    file_name = ONNXRUNTIME_LIBRARY_NAME if runtime == ONNXRUNTIME else LIBRARY_NAME
    library = typed_path(out) if out else OUT / row.name / file_name
    environment = make_environment(row, lock)
    words: list[Word] = ["plugins", "--row-file", environment.row_file]
    words += ["--sources", ROOT / "plugins", "--out", library]
    if folder is not None:
        words += ["--headers", folder]
    command = [environment.python, "-m", "trtyard.pipeline", *words]
    env = pipeline_variables(environment=environment)
    return run_with_advice(run, command, env=env, row=row.name)


def _check(headers: Path, runtime: str, row: Row) -> None:
    """Raise ``UsageError`` if the headers are not those of the runtime, or not of the row."""
    if runtime == ONNXRUNTIME and not (headers / ONNXRUNTIME_HEADER).is_file():
        raise UsageError(
            f"--headers {headers}: {ONNXRUNTIME_HEADER} is not in this folder",
            "give a folder with the headers of ONNX Runtime, or leave out --headers",
        )
    shells = shells_for(headers)
    if shells == ONNXRUNTIME != runtime:
        raise UsageError(f"--headers {headers} has headers of {shells}", f"add --for {shells}")
    if shells not in (ONNXRUNTIME, *row.plugin_shells):
        raise UsageError(
            f"--headers {headers}: this TensorRT needs {shells} plugins; "
            f"row {row.name} supports {', '.join(row.plugin_shells)}",
            f"give the include folder of TensorRT {row.tensorrt}, or choose another row",
        )
