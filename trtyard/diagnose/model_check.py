"""``doctor --model``: check which ops of a model a row supports, and which rows the others."""

import json
import shlex
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from trtyard.core.errors import ConversionError, EnvironmentLacksError, UsageError
from trtyard.core.known_models import refuse_impossible
from trtyard.core.toolchains import is_within
from trtyard.core.typed_paths import typed_path
from trtyard.diagnose.explain import as_is
from trtyard.diagnose.verdicts import ok, problem, unknown
from trtyard.known_failures import named
from trtyard.known_failures.explanation import Explanation, first_error
from trtyard.known_failures.log_places import Place
from trtyard.known_failures.operators import lacking, outside_of
from trtyard.lock.file import LockedRow
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.matrix.toolchains import toolchain_of
from trtyard.run.environment import RowEnvironment, make_environment
from trtyard.run.on_host import pipeline_variables
from trtyard.run.row_command import ERROR_CODES, run_with_advice
from trtyard.system.processes import CommandError, Word, output_of, run_plainly
from trtyard.system.terminal import say, show
from trtyard.system.uv import MATRIX_FILE

TAKEN, REFUSED = "taken", "refused"  # as in pipeline/operator_check.py
_MOST_NODES = 5
_BEHIND = "comes after a node whose output has no fixed shape or was empty in a trial run"


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The result for all nodes of one op type that had the same result."""

    op: str
    state: str
    number: int
    nodes: list[dict[str, str]]
    said: str
    failure: str
    ops: list[str]


def check_model(row: Row, lock: LockedRow, model: str, *, input_shape: str, size: str) -> int:
    """Print a verdict for every op of the model; return 0 if the row supports all, else 4.

    ``model`` is an ONNX file or a model that the row exports first. TensorRT for RTX, which needs
    no GPU, parses and builds the ops. For another row, known facts about its release are added.
    """
    builder = _builder_row(row)
    environment = make_environment(*row_and_lock(builder.name))
    with tempfile.TemporaryDirectory() as folder:
        file = _file(row, lock, model, Path(folder), input_shape=input_shape, size=size)
        whole, kinds = _answers(environment, file)
    show(f"{whole.number} nodes, parsed and built with row {builder.name}:")
    taken = _show_answers(whole, kinds)
    if row.name != builder.name:
        taken = _show_facts(row, whole.ops)
    return 0 if taken else ConversionError.exit_code


def _builder_row(row: Row) -> Row:
    """Return the row if it builds engines without a GPU, else the first row that does."""
    if row.host_until == "engine":
        return row
    for other in read_matrix(MATRIX_FILE).rows.values():
        if other.host_until == "engine":
            return other
    raise EnvironmentLacksError("no row builds engines on the host", "leave out --model")


def _file(
    row: Row, lock: LockedRow, model: str, folder: Path, *, input_shape: str, size: str
) -> Path:
    if model.endswith(".onnx"):
        given = typed_path(model)
        if not given.is_file():
            raise UsageError(f"--model {model}: file not found")
        return given
    refuse_impossible(model, int(size) if size.isdecimal() else None)
    if "host" not in row.executors:
        raise UsageError(
            f"row {row.name} exports in its Docker image only",
            f"export it: ./run convert --model {shlex.quote(model)} --trt {row.name} --until onnx;"
            " then check the ONNX file: --model FILE.onnx",
        )
    environment = make_environment(row, lock)
    file = folder / "model.onnx"
    command: list[Word] = [environment.python, "-m", "trtyard.pipeline", "export"]
    command += ["--row-file", environment.row_file, "--model", model, "--out", file]
    options = (("input", input_shape), ("size", size))
    # As --name=value: the value may begin with a dash.
    command += [f"--{name}={value}" for name, value in options if value]
    say(f"exporting {model} with row {row.name}")
    env = pipeline_variables(environment)
    code = run_with_advice(run_plainly, command, env=env, row=row.name)
    if code in ERROR_CODES:
        raise (
            ConversionError(f"cannot export {model}; the error is above")
            if code == 4
            else UsageError(f"did not export {model}; the error is above")
        )
    if code or not file.is_file():
        raise ConversionError(
            f"exporting {model} ended with exit code {code} and left no ONNX file",
            "if the model's code ends the process (os._exit), raise an exception instead",
        )
    return file


def _answers(environment: RowEnvironment, file: Path) -> tuple[_Answer, list[_Answer]]:
    """Return TensorRT's result for the whole model, and for each kind of node if it is refused."""
    command: list[Word] = [environment.python, "-m", "trtyard.pipeline", "check-model"]
    command += ["--row-file", environment.row_file, "--onnx", file]
    try:
        text = output_of(command, env=pipeline_variables(environment=environment))
    except CommandError as error:
        words = error.tail.strip().removeprefix("trtyard: ")
        raise UsageError(words) if error.code == UsageError.exit_code else error from None
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    whole, *kinds = (_Answer(**line, failure=_failure_in(line["said"])) for line in lines)
    return whole, _merged(kinds)


def _failure_in(said: str) -> str:
    """Return the name of the known failure in TensorRT's words; empty if there is none."""
    found = first_error(said)
    return found.failure.name if found else ""


def _merged(kinds: Iterable[_Answer]) -> list[_Answer]:
    """Return the answers with those of the same op type and result merged."""
    merged: dict[tuple[str, str, str], _Answer] = {}
    for one in kinds:
        key = (one.op, one.state, one.failure)
        before = merged.get(key)
        if before is not None:
            one = replace(
                before, number=before.number + one.number, nodes=[*before.nodes, *one.nodes]
            )
        merged[key] = one
    return list(merged.values())


def _show_answers(whole: _Answer, kinds: list[_Answer]) -> bool:
    """Print a verdict for each unsupported op and one for the others; return whether all pass."""
    if whole.state == TAKEN:
        show(ok("the model", f"all ops are supported: {', '.join(whole.ops)}").in_words())
        return True
    refused = [one for one in kinds if one.state == REFUSED]
    for one in refused:
        show(_refusal(one))
    if not refused:  # each node alone is supported or cannot be judged
        show(problem("the model", _first_lines(whole.said), _what_to_do(whole)).in_words())
    told = {one.op for one in refused}
    unclear = [one for one in kinds if one.state not in (TAKEN, REFUSED) and one.op not in told]
    for reason in dict.fromkeys(_reason(one) for one in unclear):
        names = dict.fromkeys(one.op for one in unclear if _reason(one) == reason)
        show(unknown("some", f"{', '.join(names)}: {reason}").in_words())
    missing = told | {one.op for one in unclear}
    fine = [one for one in dict.fromkeys(one.op for one in kinds) if one not in missing]
    if fine:
        show(ok("the others", ", ".join(fine)).in_words())
    return False


def _reason(one: _Answer) -> str:
    """Return why an op cannot be judged; the same text for all ops after an unclear node."""
    if one.failure:
        return named(one.failure).cause
    return _BEHIND if one.said.startswith(("its input", "the shape of its input")) else one.said


def _refusal(one: _Answer) -> str:
    fact = f"{one.number} node{'s' if one.number > 1 else ''}: {_what_is_known(one)}"
    if one.ops:
        fact += f"; its subgraphs have {', '.join(one.ops)}"
    hint = [_what_to_do(one)]
    for node in one.nodes[:_MOST_NODES]:
        hint.append(f"node {node['node']}" + (f" at {node['origin']}" if node["origin"] else ""))
    if one.number > _MOST_NODES:
        hint.append(f"and {one.number - min(len(one.nodes), _MOST_NODES)} more")
    rows = as_is(_explanation(one)) if one.failure else ""
    if rows:
        hint.append(f"supported by: {rows}")
    return problem(one.op, fact, "\n".join(line for line in hint if line)).in_words()


def _what_is_known(one: _Answer) -> str:
    return named(one.failure).cause if one.failure else _first_lines(one.said)


def _what_to_do(one: _Answer) -> str:
    return named(one.failure).hint if one.failure else ""


def _explanation(one: _Answer) -> Explanation:
    failure = named(one.failure)
    affected = outside_of(one.op) if failure.op == "standard" else failure.affected
    for op in one.ops:  # in its subgraphs
        affected += lacking(op)
    return Explanation(failure, 0, "", Place(op=one.op), affected)


def _first_lines(said: str) -> str:
    return " ".join(line.strip() for line in said.splitlines()[1:4])


def _show_facts(row: Row, ops: list[str]) -> bool:
    """Print which ops the row's TensorRT is known to lack; return whether it lacks none."""
    toolchain = toolchain_of(row)
    lacked = [op for op in ops if is_within(toolchain, lacking(op))]
    show(f"known about TensorRT {row.tensorrt} of row {row.name}:")
    for op in lacked:
        explanation = Explanation(named("standard-op-unsupported"), 0, "", Place(), lacking(op))
        hint = f"supported by: {as_is(explanation)}"
        show(problem(op, f"TensorRT {row.tensorrt} does not have it", hint).in_words())
    others = [op for op in ops if op not in lacked]
    if others:
        words = f"no known problem with {', '.join(others)}; not parsed or built with this release"
        show(unknown("the others" if lacked else "the model", words).in_words())
    return not lacked
