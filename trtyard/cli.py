"""Between invoke and trtyard: errors become exit codes, and invoke's own errors do so too."""

import contextlib
import functools
import inspect
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import NoReturn

from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.tasks import Task

from trtyard.command import set_echo
from trtyard.fetching.mirrors import read_mirrors
from trtyard.pipeline.errors import INTERRUPTED_EXIT_CODE, TrtyardError, UsageError
from trtyard.reading import nearest, parse_toml
from trtyard.tools import ROOT

_Task = Task[Callable[..., None]]
Repeated = Sequence[str]  # the kind of an option that may be given more than once
Optional = str | bool  # the kind of an option that may stand without a value, which is then True


def command(name: str | None = None, **helps: str) -> Callable[[Callable[..., int | None]], _Task]:
    """Make a task of a function: its keywords are options, ``helps`` says what each is for.

    What the function returns is the exit code. A ``TrtyardError`` is printed without a traceback
    and gives its own code; any other exception is a bug and keeps its traceback.
    """

    def decorate(body: Callable[..., int | None]) -> _Task:
        @functools.wraps(body)
        def wrapper(context: Context, **options: object) -> None:
            set_echo(bool(context.config.run.echo))
            try:
                code = body(**options)
            except TrtyardError as error:
                raise Exit(f"trtyard: {error}", code=error.exit_code) from None
            except KeyboardInterrupt:
                raise Exit("trtyard: interrupted", code=INTERRUPTED_EXIT_CODE) from None
            if code:
                raise Exit(code=code)

        # invoke reads the options from the signature, and wants its context first.
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own = list(inspect.signature(body).parameters.values())
        wrapper.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]
        optional = [one.name for one in own if one.annotation == Optional]
        repeated = [one.name for one in own if one.annotation == Repeated]
        return Task(
            wrapper,
            name=name,
            help=helps,
            auto_shortflags=False,
            optional=optional,
            iterable=repeated,
        )

    return decorate


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
            tasks = {one.name: one for one in self.collection.to_contexts()}
            task = tasks.get(getattr(error.context, "name", None))
            said, *_ = [*re.findall(r"'([^']*)'", str(error)), ""]
            # Invoke shows an object where a value is missing.
            what = re.sub(
                r"^Flag <Argument: ([\w-]+).* needed value.*", r"--\1 needs a value", str(error)
            )
            what, mend = what.rstrip("!"), "the tasks: ./run --list"
            known = [name for one in tasks.values() for name in (one.name, *one.aliases) if name]
            if task is not None and said.startswith("-"):
                what, mend = f"{task.name} has no option {said!r}", f"./run {task.name} --help"
                known = list(task.flags)
            raise Exit(
                f"trtyard: {what}{nearest(said, known)}\n  {mend}", code=UsageError.exit_code
            ) from None


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that children are ended and unfinished files removed on the way out.
    raise SystemExit(128 + number)


def main() -> None:
    """Run the tasks named on the command line; never returns."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    try:
        read_mirrors().set_variables(os.environ)
    except UsageError as error:
        sys.stderr.write(f"trtyard: {error}\n")
        raise SystemExit(error.exit_code) from None
    program = _Run(name="trtyard", binary="run")
    try:
        program.run(["run", "--search-root", str(ROOT), *sys.argv[1:]])
    except BrokenPipeError:  # the reader (head, less) has seen enough
        sys.stderr.close()
        raise SystemExit(0) from None
    raise SystemExit(0)
