"""Between invoke and trtyard: errors become exit codes, and invoke's own errors do so too."""

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
from trtyard.core.request import ConversionRequest
from trtyard.fetching.mirrors import read_mirrors
from trtyard.system.processes import set_echo
from trtyard.system.reading import nearest
from trtyard.system.uv import ROOT, VENV, make_places_absolute

_OF_THE_MACHINE = (
    *(errno.EBUSY, errno.EIO, errno.ELOOP, errno.EMFILE, errno.ENFILE, errno.ENODEV),
    *(errno.ENOMEM, errno.ENOSYS, errno.ENOTSUP, errno.ENXIO, errno.ESTALE, errno.ETXTBSY),
)
_Task = Task[Callable[..., None]]
Repeated = Sequence[str]  # the kind of an option that may be given more than once
Optional = str | bool  # the kind of an option that may stand without a value, which is then True


def command(
    name: str | None = None, record: type[ConversionRequest] | None = None, **helps: str
) -> Callable[[Callable[..., int | None]], _Task]:
    """Make a task of a function: its keywords are options, ``helps`` says what each is for.

    The fields of ``record`` are options too; the function gets them as words, "" if not given.

    What the function returns is the exit code. A ``TrtyardError`` is printed without a traceback
    and gives its own code; of any other exception see ``main``.
    """
    # A field's name is what the function is called with, its option's name what is typed.
    names = {
        _keyword(one.name): field for field, one in (record.options() if record else {}).items()
    }

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

        # invoke reads the options from the signature, and wants its context first.
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        fields = {} if record is None else {one.name: one for one in record.options().values()}
        own = [_of_field(name) for name in fields]
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
            help={**{_keyword(one.name): one.help for one in fields.values()}, **helps},
            auto_shortflags=False,
            optional=optional,
            iterable=repeated,
        )

    return decorate


class _HelpfulTask(Task[Callable[..., None]]):
    """A task whose help survives: invoke empties it when it makes the arguments a first time."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        kept = dict(self.help)
        try:
            return super().get_arguments(ignore_unknown_help)
        finally:
            self.help = kept


def _keyword(option: str) -> str:
    """Return the parameter that invoke turns into that option; ``in`` is a word of Python."""
    word = option.replace("-", "_")
    return f"{word}_" if keyword.iskeyword(word) else word


def _of_field(option: str) -> inspect.Parameter:
    return inspect.Parameter(_keyword(option), inspect.Parameter.POSITIONAL_OR_KEYWORD, default="")


def _for_invoke(parameter: inspect.Parameter) -> inspect.Parameter:
    """Return the parameter with a default that invoke reads as its kind is meant.

    Of any default but None invoke takes the type as the option's: a tuple would split the words
    that are given into their characters.
    """
    return parameter.replace(default=None) if parameter.annotation == Repeated else parameter


def refuse(where: str, **options: object) -> None:
    """``UsageError`` naming those of ``options`` that were given, since ``where`` ignores them."""
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise UsageError(f"{where} has no use for {', '.join(given)}", "leave out one of the two")


def words_after_dashes() -> list[str]:
    """Return what stands behind ``--`` on the command line, word by word as it was quoted."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def _as_invoke_reads(words: list[str]) -> list[str]:
    """Return the words of the command line in the form that invoke can parse.

    ``row add`` is one task's name, which invoke takes for two tasks. The folders of ``report A B``
    become ``--folder A --folder B``, since invoke has no positional argument of many values.
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
    """invoke's own program, with usage errors ending as trtyard's do."""

    def parse_core(self, argv: list[str] | None) -> None:
        super().parse_core(argv)
        words = _as_invoke_reads(self.core.unparsed)
        own = itertools.takewhile(lambda word: word != "--", words)
        if words and not words[0].startswith("-") and {"-h", "--help"} & set(own):
            # Invoke would take it for the value that the task wants.
            self.args["help"].value, words = words[0], []
        self.core.unparsed = words
        sys.dont_write_bytecode = False  # invoke's default; the next call should start faster

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
        print("One task's options: ./run TASK --help. The manual: README.md.")  # noqa: T201
        raise Exit

    def _refuse_repeated(self) -> None:
        """End with a usage error where one task gets an option twice that takes one value.

        Invoke takes the second value for a task's name, or forgets the first.
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
                    f"trtyard: {task.name}: {name} is given twice, and takes one value\n"
                    f"  leave one out; or run {task.name} once for each",
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
            # Invoke shows an object where a value is missing.
            what = re.sub(
                r"^Flag <Argument: ([\w-]+).* needed value.*", r"--\1 needs a value", str(error)
            )
            what, hint = what.rstrip("!"), "the tasks: ./run --list"
            if needed := re.search(r"required positional arguments?: (.*)", what):
                what = f"{said} needs {needed[1].upper()}".replace("'", "")
                raise Exit(
                    f"trtyard: {what}\n  ./run {said} --help", code=UsageError.exit_code
                ) from None
            known = [name for one in tasks.values() for name in (one.name, *one.aliases) if name]
            if task is not None and said.startswith("-"):
                what, hint = f"{task.name} has no option {said!r}", f"./run {task.name} --help"
                known = list(task.flags)
            raise Exit(
                f"trtyard: {what}{nearest(said, known)}\n  {hint}", code=UsageError.exit_code
            ) from None


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # As an exception, so that children are ended and unfinished files removed on the way out.
    raise SystemExit(128 + number)


def main(*, has_stdout: bool = True) -> None:
    """Run the tasks named on the command line; never returns.

    ``has_stdout`` says whether standard output was open.

    What the machine refuses ends with exit code 3. Any other exception is a bug: it keeps its
    traceback, and has an exit code of its own.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGHUP, _end)
    raise SystemExit(_exit_code(has_stdout=has_stdout))


def _run_tasks(*, has_stdout: bool) -> None:
    if not has_stdout:
        raise EnvironmentLacksError(
            "standard output is closed, and results go there", "leave out >&-, or take >/dev/null"
        )
    make_places_absolute()
    read_mirrors().set_variables(os.environ)
    _Run(name="trtyard", binary="run").run(["run", "--search-root", str(ROOT), *sys.argv[1:]])


def _exit_code(*, has_stdout: bool) -> int:
    """Run the tasks; return the exit code, that of a parity failure (1) for nothing else."""
    code: object = 0
    try:
        try:
            _run_tasks(has_stdout=has_stdout)
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()  # a result that was not written is none
    except BrokenPipeError:  # the reader (head, less) has seen enough
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
    """Return what the machine refused as an error that says so; None where it is a bug."""
    said = str(getattr(error, "explanation", None) or error)
    if type(error).__module__.startswith(("docker.", "requests.", "urllib3.")):
        return EnvironmentLacksError(f"the Docker engine or a server refused: {said}")
    if is_of_venv(error):
        return EnvironmentLacksError(
            f".venv is damaged ({type(error).__name__}: {said})",
            f"rm -rf {VENV}, then the same command makes it anew",
        )
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.ENOENT and not _stands_somewhere():
        return EnvironmentLacksError(
            "the folder you stand in was deleted", "cd to another one, then the same command"
        )
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentLacksError(
            f"the disk is full{where}", "free some space, then the same command again"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentLacksError(
            f"no right to write or read{where}: {error.strerror}",
            "give a place that you own, or run it as who owns this one",
        )
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG):
        return UsageError(f"{error.filename}: {error.strerror}")
    if error.errno in _OF_THE_MACHINE:
        return EnvironmentLacksError(f"the machine refused{where}: {error.strerror}")
    return None


def _stands_somewhere() -> bool:
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def _drop_output() -> None:
    """Leave nothing in the buffer that the end of the process would try to write once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
