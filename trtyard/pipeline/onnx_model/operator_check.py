"""Which ops of a model TensorRT takes: each parsed and built for real, one node at a time.

``supports_operator`` is True for ops that the builder cannot build. An op can also end the whole
process, so a child does the work; the parent goes on behind the node that ended it.
"""

import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import MappingProxyType
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

import numpy as np
import onnx

from trtyard.core.errors import ConversionError, UsageError
from trtyard.core.machine_faults import ROI_ALIGN_WITHOUT_DRIVER, shows
from trtyard.pipeline.onnx_model.facts import read_model, read_whole
from trtyard.pipeline.onnx_model.one_node import (
    OneNode,
    check_static,
    inner_ops,
    one_node_models,
    op_of,
)
from trtyard.pipeline.onnx_model.origin import origin_of
from trtyard.pipeline.ops.contract import DOMAIN

_MOST_NODES = 5
# A literal: the module's own name is another when it is run.
_CHILD = [sys.executable, "-m", "trtyard.pipeline.onnx_model.operator_check"]

# TensorRT's parser has a function for each op type.
_IMPORTER = re.compile(r"In function import(\w+):")

TAKEN = "taken"
REFUSED = "refused"
UNKNOWN = "unknown"


class Answer(NamedTuple):
    """TensorRT's answer for one kind of node, or for the whole model."""

    op: str
    state: str  # TAKEN, REFUSED or UNKNOWN
    number: int  # nodes of this kind
    nodes: List[Dict[str, str]]  # name and origin of the first ones
    said: str = ""  # TensorRT's own words
    ops: Sequence[str] = ()  # of the whole model, or in the node's own graphs; each once


def check_model(file: Path) -> Iterator[Answer]:
    """Yield the answer for the whole model, and where it is refused one for each kind of node.

    Raises:
        UsageError: the file is no ONNX, or an input has no fixed shape.
        EnvironmentLacksError: TensorRT's own libraries are not laid out as its parser needs them.
    """
    from trtyard.pipeline.tensorrt.engine import check_library_link

    check_library_link()
    model = read_model(file)
    check_static(model)
    whole_model = read_whole(file)
    (whole,) = _asked([file])
    ops = sorted({op_of(node) for node in model.graph.node})
    yield whole._replace(number=len(model.graph.node), ops=ops)
    if whole.state == TAKEN:
        return
    kinds = one_node_models(whole_model)
    yield from _answers_for(kinds)


def with_place(
    error: ConversionError, file: Path, inputs: Mapping[str, np.ndarray] = MappingProxyType({})
) -> ConversionError:
    """Return the error of a model that TensorRT refused, with the nodes that it is about.

    TensorRT does not always name one. Then the nodes are asked one at a time, those of one op type
    where the error tells the parser's function for it. Open dimensions are those of ``inputs``.
    """
    if "\n  op: " in error.message:
        return error
    function = _IMPORTER.search(error.message)
    try:
        kinds = [
            one
            for one in one_node_models(_fixed(onnx.load(str(file)), inputs))
            if one.nodes[0].domain != DOMAIN and (not function or one.op == function.group(1))
        ]
    except UsageError:
        return error
    refused = [one for one in _answers_for(kinds) if one.state == REFUSED]
    if not refused:
        return error
    lines = [error.message]
    places = [(one.op, node) for one in refused for node in one.nodes]
    for op, node in places[:_MOST_NODES]:
        lines.append(f"  op: {op} (node {node['node']})")
        lines += [f"  at {node['origin']}"] if node["origin"] else []
    more = sum(one.number for one in refused) - len(places[:_MOST_NODES])
    lines += [f"  and {more} more nodes"] if more > 0 else []
    log = f"{error.message}\n{refused[0].said}"
    return ConversionError("\n".join(lines), error.hint, log)


def _fixed(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """Return the model with the shapes of ``inputs`` in place of open dimensions."""
    is_open = False
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if value.name in inputs and any(each.dim_param for each in dimensions):
            is_open = True
            for dimension, size in zip(dimensions, inputs[value.name].shape):
                dimension.dim_value = size
    if is_open:  # the symbols are in there as well
        del model.graph.value_info[:]
    return model


def _answers_for(kinds: Sequence[OneNode]) -> Iterator[Answer]:
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, one in enumerate(kinds):
            if one.model is not None:
                onnx.save(one.model, str(Path(folder, f"{number}.onnx")))
                files.append(Path(folder, f"{number}.onnx"))
        answers = {path.stem: answer for path, answer in zip(files, _asked(files))}
        for number, one in enumerate(kinds):
            answer = answers.get(str(number))
            yield _about(one, answer or Answer("", UNKNOWN, 0, [], one.problem))


def _about(one: OneNode, answer: Answer) -> Answer:
    nodes = [
        {"node": node.name, "origin": origin_of(node) or ""} for node in one.nodes[:_MOST_NODES]
    ]
    inner = sorted(set(inner_ops(one.nodes[0])))
    return answer._replace(op=one.op, number=len(one.nodes), nodes=nodes, ops=inner)


def _asked(files: List[Path]) -> List[Answer]:
    """Return the answer for each file, from children that each go on where the last one ended."""
    answers: List[Answer] = []
    while len(answers) < len(files):
        rest = files[len(answers) :]
        child = subprocess.run(
            [*_CHILD, *map(str, rest)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
        )
        lines = child.stdout.decode(errors="replace").splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        answers += [Answer(**one) for one in found[: len(rest)]]
        if len(found) < len(rest):
            answers.append(_ended(child.returncode, child.stderr.decode(errors="replace")))
    return answers


def _ended(code: int, stderr: str) -> Answer:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    words = f"TensorRT ended the process ({how})\n{stderr.strip()}"
    return _refused(words)


def _refused(words: str) -> Answer:
    # Without a driver the answer is unknown: with one TensorRT may take the op.
    state = UNKNOWN if shows(ROI_ALIGN_WITHOUT_DRIVER, words) else REFUSED
    return Answer("", state, 0, [], words)


def ask(file: Path) -> Answer:
    """Parse and build ``file`` in this process, and throw the engine away."""
    from trtyard.pipeline.tensorrt.engine import build_engine

    with tempfile.TemporaryDirectory() as folder:
        try:
            build_engine(file, Path(folder, "model.engine"))
        except ConversionError as error:
            return _refused(error.message)
    return Answer("", TAKEN, 0, [])


def print_answers(file: Path) -> int:
    """Print each answer as a line of JSON, the whole model's first."""
    for answer in check_model(file):
        _print(answer)
    return 0


def _print(answer: Answer) -> None:
    facts: Dict[str, Any] = answer._asdict()
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for given in sys.argv[1:]:
        _print(ask(Path(given)))
