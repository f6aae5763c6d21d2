"""The command line, built on invoke: tasks from functions, and exit codes from errors."""

import contextlib
import errno
import functools
import inspect
import itertools
import keyword
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from invoke.context import Context
from invoke.exceptions import Exit, ParseError
from invoke.parser.argument import Argument
from invoke.program import Program
from invoke.tasks import Task

from trtyard import __version__
from trtyard.cli.damaged import is_of_venv
from trtyard.core.errors import (
    BUG_EXIT_CODE,
    INTERRUPTED_EXIT_CODE,
    EnvironmentLacksError,
    TrtyardError,
    UsageError,
)
from trtyard.core.request import ConversionRequest, Option
from trtyard.fetching.mirrors import read_mirrors
from trtyard.system.processes import set_echo
from trtyard.system.reading import nearest
from trtyard.system.uv import ROOT, VENV, make_places_absolute

_OF_THE_MACHINE = (
    *(errno.EBUSY, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENODEV),
    *(errno.ENOMEM, errno.ENOSYS, errno.ENOTSUP, errno.ENXIO, errno.ESTALE, errno.ETXTBSY),
)
_Task = Task[Callable[..., None]]
Repeated = Sequence[str]  # the type of an option that may be given more than once
Optional = str | bool  # the type of an option whose value may be left out; then it is True


def command(
    name: str | None = None,
    record: type[ConversionRequest] | None = None,
    without: Sequence[str] = (),
    **helps: str,
) -> Callable[[Callable[..., int | None]], _Task]:
    """Return a decorator that makes a task of a function; its keywords become options.

    The function returns the exit code. A ``TrtyardError`` is printed without a traceback and sets
    the exit code; for other exceptions see ``main``.

    Args:
        name: the task's name (default: the function's).
        record: its fields become options too, passed as text, "" if not given.
        without: the fields of the record that do not.
        helps: the help of each option.
    """
    known = record.options() if record else {}
    known = {field: one for field, one in known.items() if field not in without}
    # The option's name is typed; the function is called with the field's name.
    names = {_keyword(one.name): field for field, one in known.items()}

    def decorate(body: Callable[..., int | None]) -> _Task:
        @functools.wraps(body)
        def wrapper(context: Context, **options: object) -> None:
            set_echo(bool(context.config.run.echo))
            try:
                code = body(**{names.get(one, one): value for one, value in options.items()})
            except TrtyardError as error:
                raise Exit(f"trtyard: {error}", code=error.exit_code) from None
            except KeyboardInterrupt:
                raise Exit("trtyard: interrupted", code=INTERRUPTED_EXIT_CODE) from None
            if code:
                raise Exit(code=code)

        # invoke reads the options from the signature; the context comes first.
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        own = [_of_field(one) for one in known.values()]
        own += [
            _for_invoke(one)
            for one in inspect.signature(body).parameters.values()
            if one.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        wrapper.__signature__ = inspect.Signature([first, *own])  # type: ignore[attr-defined]
        optional = [one.name for one in own if one.annotation == Optional]
        repeated = [one.name for one in own if one.annotation == Repeated]
        return _HelpfulTask(
            wrapper,
            name=name,
            help={**{_keyword(one.name): one.help for one in known.values()}, **helps},
            auto_shortflags=False,
            optional=optional,
            iterable=repeated,
        )

    return decorate


class _HelpfulTask(Task[Callable[..., None]]):
    """A task that keeps its help texts: invoke removes them when it first makes the arguments."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        kept = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = kept


def _keyword(option: str) -> str:
    """Return the parameter name for an option; Python keywords such as ``in`` get an underscore."""
    word = option.replace("-", "_")
    return f"{word}_" if keyword.iskeyword(word) else word


def _of_field(option: Option) -> inspect.Parameter:
    default = False if option.is_flag else None if option.is_repeated else ""
    return inspect.Parameter(
        _keyword(option.name),
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=default,
        annotation=Repeated if option.is_repeated else inspect.Parameter.empty,
    )


def _for_invoke(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter; one of type Repeated gets the default None.

    invoke takes an option's type from its default, and with a tuple splits values into characters.
    """
    return parameter.replace(default=None) if parameter.annotation == Repeated else parameter


def refuse(where: str, **options: object) -> None:
    """Raise ``UsageError`` if one of ``options`` was given; ``where`` does not support them."""
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        options_given = ", ".join(given)
        raise UsageError(f"{where} does not support {options_given}", f"leave out {options_given}")


def words_after_dashes() -> list[str]:
    """Return the words after ``--`` on the command line."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def _as_invoke_reads(words: list[str]) -> list[str]:
    """Return the words of the command line in a form that invoke can parse.

    ``row add`` becomes one word, a task's name. ``report A B`` becomes ``report --folder A --folder
    B``, because invoke has no positional argument with several values.
    """
    if words[:1] == ["row"] and len(words) > 1 and not words[1].startswith("-"):
        return [" ".join(words[:2]), *words[2:]]
    if words[:1] == ["report"]:
        joined = ["report"]
        for before, word in itertools.pairwise(words):
            is_value = before in ("--folder", "--out")
            joined += [word] if is_value or word.startswith("-") else ["--folder", word]
        return joined
    return words


class _Run(Program):
    """invoke's program, with trtyard's messages and exit codes for usage errors."""

    def parse_core(self, argv: list[str] | None) -> None:
        super().parse_core(argv)
        words = _as_invoke_reads(self.core.unparsed)
        own = itertools.takewhile(lambda word: word != "--", words)
        if words and not words[0].startswith("-") and {"-h", "--help"} & set(own):
            # invoke would read --help as the value of the task's argument.
            self.args["help"].value, words = words[0], []
        elif self.args["help"].value is True:
            # invoke would list its own options, before it has loaded the tasks.
            self.args["help"].set_value(None, cast=False)
            words = []
        self.core.unparsed = words
        sys.dont_write_bytecode = False  # invoke sets it; with bytecode the next call starts faster

    def parse_tasks(self) -> None:
        self._refuse_repeated()
        with self._usage_errors():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        with self._usage_errors():
            super().parse_cleanup()

    def print_version(self) -> None:
        print(f"trtyard {__version__}")  # noqa: T201

    def no_tasks_given(self) -> None:
        self.list_tasks()
        print("Options of one command: ./run COMMAND --help. Manual: README.md.")  # noqa: T201
        raise Exit

    def print_task_help(self, name: str) -> None:
        context = self.parser.contexts[name]
        needed = "".join(f" {one.name.upper()}" for one in context.positional_args if one.name)
        options = context.help_tuples()
        print(f"Usage: ./run {name}{needed}{' [OPTIONS]' if options else ''}\n")  # noqa: T201
        print(f"{inspect.getdoc(self.collection[name])}\n")  # noqa: T201
        if options:
            print("Options:\n")  # noqa: T201
            self.print_columns(options)

    def task_list_opener(self, extra: str = "") -> str:  # noqa: ARG002 - invoke passes it
        return "Commands"

    def _refuse_repeated(self) -> None:
        """Exit with a usage error if a task gets a single-value option twice.

        invoke would read the second value as a task's name, or drop the first value.
        """
        tasks = {one.name: one for one in self.collection.to_contexts() if one.name}
        task, given = None, set[str]()
        for word in itertools.takewhile(lambda one: one != "--", self.argv[1:]):
            name = word.partition("=")[0]
            if word in tasks:
                task, given = tasks[word], set[str]()
                continue
            argument = None if task is None else task.flags.get(name)
            if task is None or argument is None or not argument.takes_value:
                continue
            if name in given and argument.kind not in (list, tuple):
                raise Exit(
                    f"trtyard: {task.name}: {name} is given twice but takes one value\n"
                    f"  leave one out, or run {task.name} once for each value",
                    code=UsageError.exit_code,
                )
            given.add(name)

    @contextlib.contextmanager
    def _usage_errors(self) -> Iterator[None]:
        try:
            yield
        except ParseError as error:
            tasks = {one.name: one for one in self.collection.to_contexts()}
            task = tasks.get(getattr(error.context, "name", None))
            said, *_ = [*re.findall(r"'([^']*)'", str(error)), ""]
            # invoke prints an object if a value is missing.
            what = re.sub(
                r"^Flag <Argument: ([\w-]+).* needed value.*", r"--\1 needs a value", str(error)
            )
            what, hint = what.rstrip("!"), "list the commands: ./run"
            if needed := re.search(r"required positional arguments?: (.*)", what):
                what = f"{said} needs {needed[1].upper()}".replace("'", "")
                raise Exit(
                    f"trtyard: {what}\n  ./run {said} --help", code=UsageError.exit_code
                ) from None
            what = re.sub(r"^No idea what ('.*') is$", r"there is no command \1", what)
            known = [name for one in tasks.values() for name in (one.name, *one.aliases) if name]
            if task is not None and said.startswith("-"):
                what, hint = f"{task.name} has no option {said!r}", f"./run {task.name} --help"
                known = list(task.flags)
            raise Exit(
                f"trtyard: {what}{nearest(said, known)}\n  {hint}", code=UsageError.exit_code
            ) from None


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that child processes are ended and partial files removed.
    raise SystemExit(128 + number)


def main(*, has_stdout: bool = True) -> None:
    """Run the tasks on the command line and exit; never returns.

    Errors of the machine, such as a full disk, give exit code 3. Any other unknown exception is a
    bug: it is printed with its traceback and gives exit code 70.

    Args:
        has_stdout: whether standard output was open at the start.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    raise SystemExit(_exit_code(has_stdout=has_stdout))


def _run_tasks(*, has_stdout: bool) -> None:
    if not has_stdout:
        raise EnvironmentLacksError(
            "standard output is closed, but results go there", "leave out >&-, or use >/dev/null"
        )
    make_places_absolute()
    read_mirrors().set_variables(os.environ)
    _Run(name="trtyard", binary="run").run(["run", "--search-root", str(ROOT), *sys.argv[1:]])


def _exit_code(*, has_stdout: bool) -> int:
    """Run the tasks; return the exit code. 1 always means a parity failure."""
    code: object = 0
    try:
        try:
            _run_tasks(has_stdout=has_stdout)
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()  # raises here if the output cannot be written
    except BrokenPipeError:  # the reader (head, less) has ended
        _drop_output()
        return 0
    except Exception as error:
        known = error if isinstance(error, TrtyardError) else _from_outside(error)
        if known is None:
            traceback.print_exc()
            return BUG_EXIT_CODE
        sys.stderr.write(f"trtyard: {known}\n")
        _drop_output()
        return known.exit_code
    return code if isinstance(code, int) else int(code is not None)


def _from_outside(error: Exception) -> TrtyardError | None:
    """Return an error for an exception that the machine caused; None if it is a bug."""
    said = str(getattr(error, "explanation", None) or error)
    if type(error).__module__.startswith(("docker.", "requests.", "urllib3.")):
        return EnvironmentLacksError(f"Docker or a server reported an error: {said}")
    if is_of_venv(error):
        return EnvironmentLacksError(
            f".venv is damaged ({type(error).__name__}: {said})",
            f"rm -rf {VENV}, then run the same command again",
        )
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.ENOENT and not _stands_somewhere():
        return EnvironmentLacksError(
            "the current folder was deleted", "cd to another one, then run the same command again"
        )
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentLacksError(
            f"the disk is full{where}", "free some space, then run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentLacksError(
            f"permission denied{where}: {error.strerror}",
            "use a path that you own, or run the command as the owner of this one",
        )
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return UsageError(f"{error.filename}: {error.strerror}")
    if error.errno in _OF_THE_MACHINE:
        return EnvironmentLacksError(f"system error{where}: {error.strerror}")
    return None


def _stands_somewhere() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _drop_output() -> None:
    """Redirect stdout to /dev/null: at exit Python would try to write its buffer again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
