"""Start an ONNX Runtime in a process of its own, and run one ONNX file there.

onnxruntime-gpu has the modules of the row's onnxruntime, so one process has only one of them. And
a library that does not fit may end its process: then only this one ends.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, NamedTuple, Optional

import numpy as np

from trtyard.core.errors import ConversionError, EnvironmentLacksError, TrtyardError
from trtyard.core.packages import MODULES
from trtyard.pipeline.onnxruntime_cuda.child import CUDA_PROVIDER, LACKS, REFUSES

_ROOT = Path(__file__).resolve().parents[3]
_MODULE = "trtyard.pipeline.onnxruntime_cuda.child"
_HINT = (
    "./run plugins --for onnxruntime compiles the library; it runs with ONNX Runtime 1.21 or newer"
)
# In ONNX Runtime's log.
_NOT_LOADED = re.compile(r"Failed to load library \S+ with error: (.+)")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Asked(NamedTuple):
    """What to run, and in which ONNX Runtime."""

    file: Path
    inputs: Dict[str, np.ndarray]
    library: Optional[Path] = None  # the custom ops' kernels; None: the file's function bodies
    is_graph: bool = False  # record the run as a CUDA graph, and replay it
    threads: int = 0  # of the CPU; 0: ONNX Runtime's default
    packages: Optional[Path] = None  # folder with onnxruntime-gpu; None: the environment's own
    provider: str = CUDA_PROVIDER


class Running:
    """A loaded file that has run once."""

    def __init__(self, process: "_Process", facts: Dict[str, Any], outputs: Path) -> None:
        self._process = process
        self.version: str = facts["version"]  # of ONNX Runtime
        self.seconds: float = facts["seconds"]  # to create the session
        with np.load(str(outputs)) as archive:
            self.outputs: Dict[str, np.ndarray] = {
                name: archive[f"arr_{number}"] for number, name in enumerate(facts["outputs"])
            }

    def run(self) -> float:
        """Run it again and return the milliseconds, with inputs and outputs on the device."""
        return float(self._process.answer_to("run\n")["milliseconds"])


@contextlib.contextmanager
def running(asked: Asked) -> Iterator[Running]:
    """Load and run ``asked`` in a process that ends with this block.

    Raises:
        EnvironmentLacksError: this ONNX Runtime does not have or cannot load the provider.
        ConversionError: it refuses the library or the file, or its process crashed.
    """
    with tempfile.TemporaryDirectory(prefix="trtyard-onnxruntime-") as name:
        folder = Path(name)
        outputs = folder / "outputs.npz"
        np.savez(str(folder / "inputs.npz"), *asked.inputs.values())
        facts = {
            "file": str(asked.file.resolve()),
            "inputs": list(asked.inputs),
            "inputs_file": str(folder / "inputs.npz"),
            "outputs_file": str(outputs),
            "library": None if asked.library is None else str(asked.library.resolve()),
            "is_graph": asked.is_graph,
            "threads": asked.threads,
            "provider": asked.provider,
        }
        (folder / "asked.json").write_text(json.dumps(facts), encoding="utf-8")
        with _started(asked, folder) as process:
            yield Running(process, process.answer_to(""), outputs)


@contextlib.contextmanager
def _started(asked: Asked, folder: Path) -> Iterator["_Process"]:
    reading, writing = os.pipe()
    first = [] if asked.packages is None else [str((asked.packages / MODULES).resolve())]
    paths = [*first, str(_ROOT), os.environ.get("PYTHONPATH", "")]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, paths)))
    command = [sys.executable, "-m", _MODULE, str(folder / "asked.json"), str(writing)]
    file = folder / "log"
    with os.fdopen(reading, encoding="utf-8") as answers, file.open("w+", errors="replace") as log:
        try:
            process = subprocess.Popen(
                command,
                cwd=str(folder),
                env=env,
                pass_fds=(writing,),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                universal_newlines=True,
            )
        finally:
            os.close(writing)
        try:
            yield _Process(asked, process, answers, log)
        finally:
            process.kill()  # it holds nothing but memory
            process.communicate()


class _Process:
    """The child, its answers and its log."""

    def __init__(self, asked: Asked, process: Any, answers: Any, log: Any) -> None:
        self._asked = asked
        self._process = process
        self._answers = answers
        self._log = log

    def answer_to(self, line: str) -> Dict[str, Any]:
        """Send the line, if it is not empty, and return the next answer."""
        with contextlib.suppress(BrokenPipeError):  # it has ended; below says how
            self._process.stdin.write(line)
            self._process.stdin.flush()
        text = self._answers.readline()
        if not text:
            raise self._ended(self._process.wait())
        answer: Dict[str, Any] = json.loads(text)
        if "problem" in answer:
            raise self._error(answer["problem"], answer["text"])
        return answer

    def _error(self, kind: str, text: str) -> TrtyardError:
        if kind == LACKS:
            log = self._log_text()
            missing = _NOT_LOADED.search(log)
            why = "" if missing is None else f": {missing.group(1).strip()}"
            return EnvironmentLacksError(f"{text}{why}", log=log)
        if kind == REFUSES and self._asked.library is not None:
            name = self._asked.library.name
            return ConversionError(f"ONNX Runtime refuses {name}: {text}", _HINT, log=text)
        name = self._asked.file.name
        return ConversionError(
            f"ONNX Runtime with {self._asked.provider} cannot run {name}: {text}",
            log="\n".join(filter(None, (self._log_text(), text))),
        )

    def _ended(self, code: int) -> ConversionError:
        how = f"ended with exit code {code}"
        if code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        library, hint = self._asked.library, None
        what = f"the process of ONNX Runtime with {self._asked.provider} {how}"
        if library is not None:
            what += f" and {library.name} loaded"
            hint = f"if {library.name} is for another ONNX Runtime, CUDA or GPU: {_HINT}"
        return ConversionError(what, hint, log=self._log_text() or None)

    def _log_text(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return _COLOURS.sub("", str(self._log.read())).strip()
