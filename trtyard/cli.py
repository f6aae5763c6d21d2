"""Between invoke and trtyard: errors become exit codes, and invoke's own errors do so too."""

import contextlib
import functools
import re
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn, ParamSpec

from invoke.exceptions import Exit, ParseError
from invoke.program import Program

from trtyard.pipeline.errors import INTERRUPTED_EXIT_CODE, TrtyardError, UsageError
from trtyard.reading import nearest, parse_toml
from trtyard.tools import ROOT

P = ParamSpec("P")


def entry(body: Callable[P, int | None]) -> Callable[P, None]:
    """Wrap a task's body: what it returns is the exit code, what it raises becomes one.

    A ``TrtyardError`` is printed without a traceback; any other exception is a bug and keeps it.
    """

    @functools.wraps(body)
    def task(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = body(*args, **kwargs)
        except TrtyardError as error:
            raise Exit(f"trtyard: {error}", code=error.exit_code) from None
        except KeyboardInterrupt:
            raise Exit("trtyard: interrupted", code=INTERRUPTED_EXIT_CODE) from None
        if code:
            raise Exit(code=code)

    return task


def words_after_dashes() -> list[str]:
    """Return what stands behind ``--`` on the command line, word by word as it was quoted."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


class _Run(Program):
    """invoke's own program, with usage errors ending as trtyard's do."""

    def parse_core(self, argv: list[str] | None) -> None:
        super().parse_core(argv)
        sys.dont_write_bytecode = False  # invoke's default; the next call should start faster

    def parse_tasks(self) -> None:
        with self._usage_errors():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        with self._usage_errors():
            super().parse_cleanup()

    def print_version(self) -> None:
        project = parse_toml((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        print(f"trtyard {project['version']}")  # noqa: T201

    def no_tasks_given(self) -> None:
        self.list_tasks()
        print("One task's options: ./run TASK --help. The manual: README.md.")  # noqa: T201
        raise Exit

    @contextlib.contextmanager
    def _usage_errors(self) -> Iterator[None]:
        try:
            yield
        except ParseError as error:
            tasks = self.collection.to_contexts()
            known = [name for one in tasks for name in (one.name, *one.aliases, *one.flags) if name]
            words = re.findall(r"'([^']*)'", str(error))
            hint = nearest(words[0], known) if words else ""
            mend = "the tasks: ./run --list; a task's options: ./run TASK --help"
            raise Exit(
                f"trtyard: {str(error).rstrip('!')}{hint}\n  {mend}", code=UsageError.exit_code
            ) from None


def _end(number: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that children are ended and unfinished files removed on the way out.
    raise SystemExit(128 + number)


def main() -> None:
    """Run the tasks named on the command line; never returns."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    program = _Run(name="trtyard", binary="run")
    try:
        program.run(["run", "--search-root", str(ROOT), *sys.argv[1:]])
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        raise SystemExit(0) from None
    raise SystemExit(0)
