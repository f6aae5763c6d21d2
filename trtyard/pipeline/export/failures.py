"""Turn an exporter's failure into the op, the user's own line, and the exporter's words."""

import contextlib
import re
import traceback
from typing import Any, Iterator, List, Optional

from trtyard.core.cited_lines import GRAPH_COMMENT
from trtyard.core.errors import ConversionError, TrtyardError
from trtyard.pipeline.export.traced_node import traced_node
from trtyard.pipeline.models.users_frame import users_frame
from trtyard.pipeline.onnx_model.origin import last_line_in

_OP_NAMES = (
    re.compile(r"OpOverload\(op='([^']+)'"),
    re.compile(r"operator '([^']+)'"),
    re.compile(r"Couldn't export Python operator (\S+)"),
)
# torch.export names every symbol of an expression. The log has all of it.
_LONGEST_SUMMARY = 300
_TRANSLATED_NODE = re.compile(r"translating node %(\w+)")


@contextlib.contextmanager
def explained(what: str, program: Optional[Any] = None) -> Iterator[None]:
    """Raise a ConversionError with the place of any error that the block raises.

    Args:
        what: the sentence that the message starts with.
        program: the captured program, when there is one already: it knows the Python lines.
    """
    try:
        yield
    except (TrtyardError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        words = "\n".join(f"{type(each).__name__}: {each}" for each in _chain(error))
        node = traced_node(_chain(error)[-1])
        op = _first(_OP_NAMES, words) or (node.op if node else None)
        where = _line_in_program(program, words) or _line_in(_users(words, program))
        where = where or (node.line if node else None) or _user_frame(error)
        root = _chain(error)[-1]
        summary = ": ".join([type(root).__name__, *str(root).strip().splitlines()[:1]])
        if len(summary) > _LONGEST_SUMMARY:
            summary = summary[:_LONGEST_SUMMARY] + " ..."
        lines = [what, f"  op: {op}" if op else f"  {summary}"]
        if where:
            lines.append(f"  at {where}")
        log = f"in {_raised_in(root)}\n{words}"
        raise ConversionError("\n".join(lines), log=log) from error


def _chain(error: BaseException) -> List[BaseException]:
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return chain


def _raised_in(error: BaseException) -> str:
    """Return the function that raised: some errors say nothing without it."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].name if frames else ""


def _first(patterns: Any, words: str) -> Optional[str]:
    for pattern in patterns:
        found = pattern.search(words)
        if found:
            return str(found.group(1))
    return None


def _line_in(words: str) -> Optional[str]:
    """Return the last Python line that a message cites."""
    comments = [
        "{}:{}".format(*match.group("file", "line")) for match in GRAPH_COMMENT.finditer(words)
    ]
    return last_line_in(words) or (comments[-1] if comments else None)


def _line_in_program(program: Optional[Any], words: str) -> Optional[str]:
    """Return the Python line of the node whose translation failed.

    Its name is that of the decomposed program, whose nodes keep their origin's stack.
    """
    failed = _TRANSLATED_NODE.search(words)
    if program is None or failed is None:
        return None
    with contextlib.suppress(Exception):  # an explanation must not replace the error
        for candidate in (program, program.run_decompositions()):
            for node in candidate.graph.nodes:
                if node.name == failed.group(1) and node.meta.get("stack_trace"):
                    return _line_in(_users(node.meta["stack_trace"], program))
        for node in program.graph.nodes:
            if node.name.startswith(failed.group(1)) and node.meta.get("stack_trace"):
                return _line_in(_users(node.meta["stack_trace"], program))
    return None


def _users(words: str, program: Optional[Any]) -> str:
    """Return words that may cite code which torch.export generated with the user's in its place."""
    if program is None:
        return words
    from trtyard.pipeline.export.inner_lines import users_stack  # torch 2.5 and newer

    return users_stack(words, program)


def _user_frame(error: BaseException) -> Optional[str]:
    """Return the line of the user's own code that the error, or what it was made of, came from."""
    for each in reversed(_chain(error)):
        frame = users_frame(each)
        if frame is not None:
            return f"{frame.filename}:{frame.lineno} in {frame.name}: {frame.line}"
    return None
