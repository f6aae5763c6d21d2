"""Run a command of the pipeline in a row's environment, and say what is known about its error."""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from trtyard.core.error_file import VARIABLE, error_in
from trtyard.core.errors import ConversionError
from trtyard.known_failures.advice import with_advice
from trtyard.matrix.toolchains import matrix_toolchains
from trtyard.system.processes import Word

ERROR_CODES = range(2, 6)  # of commands that have printed an error


class Runner(Protocol):
    """``run`` or ``run_plainly`` of ``trtyard.system.processes``."""

    def __call__(self, command: Sequence[Word], *, env: Mapping[str, str]) -> int:
        """Run the command on the caller's own output streams; return the exit code."""


def run_with_advice(
    runner: Runner, command: Sequence[Word], *, env: Mapping[str, str], row: str
) -> int:
    """Run the command for ``row``; print its error with cause and fix, return its exit code.

    Raises ``ConversionError`` for the exit code of an error without the error: the model's code has
    ended the process.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "error.json")
        code = runner(command, env={**env, VARIABLE: str(file)})
        if file.is_file():
            error = with_advice(error_in(file), matrix_toolchains(), row)
            sys.stderr.write(f"trtyard: {error}\n")
        elif code in ERROR_CODES:
            raise ConversionError(
                f"the command ended with exit code {code} and no error",
                "if the model's code ends the process (os._exit), raise an exception instead",
            )
    return code
