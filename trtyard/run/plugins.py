"""``plugins`` on the host: compile the plugins with the row's nvcc."""

from pathlib import Path

from trtyard.core.errors import UsageError
from trtyard.core.plugins.compile_plugins import shells_for
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.environment import make_environment
from trtyard.run.on_host import pipeline_variables
from trtyard.run.row_command import run_with_advice
from trtyard.system.processes import Word, run
from trtyard.system.uv import OUT, ROOT

LIBRARY_NAME = "libtrtyard_plugins.so"


def compile_plugins(name: str, *, headers: str, out: str) -> int:
    """Compile the plugins of the row into ``out``; return the exit code."""
    row, lock = row_and_lock(name)
    if row.host_until != "engine":
        raise UsageError(
            f"row {row.name} compiles its plugins in its Docker image only",
            f"./run build --trt {row.name}",
        )
    folder = Path(headers).expanduser().absolute() if headers else None
    if folder is not None and shells_for(folder) not in row.plugin_shells:
        raise UsageError(
            f"--headers {folder}: this TensorRT needs {shells_for(folder)} plugins; "
            f"row {row.name} supports {', '.join(row.plugin_shells)}",
            f"give the include folder of TensorRT {row.tensorrt}, or choose another row",
        )
    library = Path(out).expanduser().absolute() if out else OUT / row.name / LIBRARY_NAME
    environment = make_environment(row, lock)
    words: list[Word] = ["plugins", "--row-file", environment.row_file]
    words += ["--sources", ROOT / "plugins", "--out", library]
    if folder is not None:
        words += ["--headers", folder]
    command = [environment.python, "-m", "trtyard.pipeline", *words]
    env = pipeline_variables(environment=environment)
    return run_with_advice(run, command, env=env, row=row.name)
