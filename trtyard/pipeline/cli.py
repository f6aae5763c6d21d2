"""The command line inside a row's environment. People use ``./run``, which calls this."""

import argparse
import contextlib
import ctypes
import errno
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Optional, Sequence, Type

from trtyard.core.ended import leave_code
from trtyard.core.error_file import give_to_host
from trtyard.core.errors import (
    INTERRUPTED_EXIT_CODE,
    ConversionError,
    EnvironmentLacksError,
    TrtyardError,
    UsageError,
)
from trtyard.core.output_lock import held
from trtyard.core.packages import add_packages
from trtyard.core.report import (
    FAILED,
    JSON_FILE,
    NOT_RUN,
    Packages,
    Report,
    exit_code,
    precision_stages,
)
from trtyard.core.request import BenchRequest, ConversionRequest
from trtyard.core.shown_paths import set_names
from trtyard.pipeline import run_engine
from trtyard.pipeline.row import Row, read_row
from trtyard.pipeline.streams import restore_streams, streams_kept

_PR_SET_PDEATHSIG = 1  # of linux/prctl.h
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_REQUESTS = {one.task: one for one in (ConversionRequest, BenchRequest)}


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors go to stderr with what to do."""
    options = _parser().parse_args(list(arguments))
    if options.command not in _REQUESTS:
        return _ended(options)
    # The model's code may change the working directory.
    options.out = Path.cwd() / options.out
    request = None if options.request is None else Path.cwd() / options.request
    with streams_kept():
        code = _ended(options)
    if request is not None:
        leave_code(request, code)
    return code


def _ended(options: argparse.Namespace) -> int:
    """Run the command to its end; return its exit code."""
    try:
        try:
            return _run(options)
        finally:
            restore_streams()
    except TrtyardError as error:
        return _say(error)
    except KeyboardInterrupt:
        sys.stderr.write("trtyard: interrupted; no incomplete files are left\n")
        return INTERRUPTED_EXIT_CODE
    except OSError as error:
        return _say(_from_os(error))
    except MemoryError as error:
        return _say(EnvironmentLacksError(f"memory ran out: {error}"))
    except Exception:  # Python's own exit code for it, 1, says that runtimes disagree
        traceback.print_exc()
        return _say(
            ConversionError(
                "this is a bug in trtyard; no incomplete files are left",
                "report it with the lines above, and with the model if you can",
            )
        )


def _run(options: argparse.Namespace) -> int:
    row = read_row(options.row_file)
    if options.command == "plugins":
        from trtyard.core.plugins.compile_plugins import compile_plugins

        compiled = compile_plugins(
            options.sources, options.out, row.architectures, headers=options.headers
        )
        state = "already compiled" if compiled.cached else "compiled"
        sys.stdout.write(f"{state}: {compiled.library.name} sha256 {compiled.sha256}\n")
        return 0
    if options.command == "run-engine":
        return run_engine.run(row, options)
    if options.command == "onnx-facts":
        from trtyard.pipeline.onnx_model import facts as onnx_facts

        return onnx_facts.run(options)
    if options.command == "check-model":
        from trtyard.pipeline.onnx_model.operator_check import print_answers

        return print_answers(options.onnx)
    if options.command == "published-weights":
        from trtyard.pipeline.models.weights import print_address

        return print_address(options.model)
    if options.command == "export":
        from trtyard.pipeline.export.command import export_to

        return export_to(row, options)
    if options.parent is not None:
        _end_with(options.parent)
    set_names(dict(options.shown_as))
    packages = None if options.package_folder is None else add_packages(options.package_folder)
    with held(options.out):  # before torch is imported, which takes seconds
        return _convert(row, options, packages)


def _convert(row: Row, options: argparse.Namespace, packages: Optional[Packages]) -> int:
    from trtyard.pipeline.convert import Surroundings, convert

    report = convert(
        row,
        _request(options),
        Surroundings(
            options.executor,
            options.out,
            _PACKAGE_ROOT / "plugins",
            options.plugin_cache,
            options.weights_address,
            packages,
            options.gpu_packages,
            options.onnxruntime_headers,
        ),
    )
    if options.request is None:  # otherwise who wrote it shows the report
        _show_stages(report)
    return exit_code(report)


def _show_stages(report: Report) -> None:
    """Print what did not pass, and the file that has the rest."""
    stages = [*report.stages, *precision_stages(report)]
    for stage in stages:
        if stage.status == NOT_RUN:
            sys.stdout.write(f"{stage.name}: not run: {stage.reason}\n")
    sys.stdout.write(f"{JSON_FILE} is written; ./run report FOLDER makes its pages\n")
    sys.stdout.flush()
    for stage in stages:
        if stage.status == FAILED:
            sys.stderr.write(f"\ntrtyard: {ConversionError(stage.reason or '', stage.hint)}\n")


def _request(options: argparse.Namespace) -> ConversionRequest:
    """Return the request of --request, or of the same options as ./run convert has."""
    kind = _REQUESTS[options.command]
    names = [name for name, one in kind.options().items() if not one.host_only]
    values = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in values.items() if value not in (None, False)}
    if options.request is None:
        return kind.from_words(given)
    if given:
        raise UsageError("--request has every option", "leave out the other options")
    return kind.read(options.request)


def _end_with(parent: int) -> None:
    """Have the kernel end this process when the command that started it is killed.

    Otherwise it would write its results later, perhaps over those of a newer run.
    """
    with contextlib.suppress(AttributeError):  # Linux alone has it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it was killed before
        raise EnvironmentLacksError("the command that started this conversion was killed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trtyard.pipeline")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.required = True
    _add_convert(
        commands.add_parser("convert", help="take a model to ONNX and TensorRT"), ConversionRequest
    )
    _add_convert(commands.add_parser("bench", help="convert, and time every runtime"), BenchRequest)
    plugins = commands.add_parser("plugins", help="compile the plugins' kernels")
    plugins.add_argument("--row-file", type=Path, required=True)
    plugins.add_argument("--sources", type=Path, default=_PACKAGE_ROOT / "plugins")
    plugins.add_argument("--out", type=Path, required=True, help="the library to write")
    plugins.add_argument("--headers", type=Path, help="folder that holds NvInfer.h: C++ shells too")
    _add_onnx_facts(commands.add_parser("onnx-facts", help="say what a file knows of a node"))
    check = commands.add_parser(
        "check-model", help="say which ops TensorRT takes, by building them"
    )
    check.add_argument("--row-file", type=Path, required=True)
    check.add_argument("--onnx", type=Path, required=True)
    weights = commands.add_parser(
        "published-weights", help="print the address of a model's weights"
    )
    weights.add_argument("--row-file", type=Path, required=True)
    weights.add_argument("--model", required=True)
    _add_export(commands.add_parser("export", help="write a model as ONNX, and nothing more"))
    run_engine.add_arguments(commands.add_parser("run-engine", help="run an engine alone"))
    return parser


def _add_convert(parser: argparse.ArgumentParser, kind: Type[ConversionRequest]) -> None:
    parser.add_argument("--row-file", type=Path, required=True)
    parser.add_argument("--executor", choices=["host", "docker"], required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--request", type=Path, help="request.json, in place of what follows")
    for name, one in kind.options().items():
        if not one.host_only:
            words = one.help.replace("%", "%%")
            if one.is_flag:
                parser.add_argument(f"--{one.name}", dest=name, help=words, action="store_true")
            elif one.is_repeated:
                parser.add_argument(f"--{one.name}", dest=name, help=words, action="append")
            else:
                parser.add_argument(f"--{one.name}", dest=name, help=words)
    parser.add_argument(
        "--shown-as",
        nargs=2,
        action="append",
        default=[],
        metavar=("PATH", "NAME"),
        help="what reports call a file or folder that has another name where this was started",
    )
    parser.add_argument("--weights-address", help="where the file of --weights was downloaded")
    parser.add_argument("--package-folder", type=Path, help="folder with the packages of --with")
    parser.add_argument("--gpu-packages", type=Path, help="folder with onnxruntime-gpu")
    parser.add_argument(
        "--onnxruntime-headers", type=Path, help="folder that holds onnxruntime_cxx_api.h"
    )
    parser.add_argument("--parent", type=int, help="end when this process is not the parent")
    parser.add_argument("--plugin-cache", type=Path, help="where to compile one otherwise")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--row-file", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--size", type=int)
    parser.add_argument("--input", help="shapes as for convert; of a range the usual size")


def _add_onnx_facts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--row-file", type=Path, required=True)
    parser.add_argument("--onnx", type=Path, required=True)
    parser.add_argument("--node", default="", help="the node's name")
    parser.add_argument("--number", type=int, help="its index in the graph")
    parser.add_argument("--op", default="", help="its op type")


def _say(error: TrtyardError) -> int:
    if not give_to_host(error):
        sys.stderr.write(f"trtyard: {error}\n")
        if error.log:
            sys.stderr.write("  for its cause: the same command with 2>&1 | ./run explain -\n")
    return error.exit_code


def _from_os(error: OSError) -> TrtyardError:
    """Return the error for an exception of the operating system."""
    name: Optional[str] = error.filename
    where = f" ({name})" if name else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return EnvironmentLacksError(
            f"the disk is full{where}; no incomplete files are left",
            "free some space, or give another folder with --out",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EnvironmentLacksError(
            f"permission denied{where}: {error.strerror}",
            "use a folder that you own: --out FOLDER",
        )
    return ConversionError(f"{error.strerror or error}{where}")
