"""Split ``--model 'nets.py:make_net(num_classes=10)'`` into a callable and its arguments.

The arguments are literals, so reading them runs no code. Standard library only, Python 3.6.
"""

import ast
import re
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from trtyard.core.errors import UsageError

EXAMPLE = "--model 'nets.py:make_net(num_classes=10, depth=18)'"

_LITERALS = "numbers, strings, True, False, None, and tuples, lists and dicts of them"
_WORD = r"[^\W\d]\w*"
_OPENING = re.compile(rf":({_WORD}(?:\.{_WORD})*)\s*\(")
_WITHOUT_ARGUMENTS = re.compile(r".+\.py:[\w.]+\Z", re.DOTALL)
_OTHER_LANGUAGES = {"true": "True", "false": "False", "null": "None", "none": "None"}


class ModelCall(NamedTuple):
    """A user's own model, as ``--model`` gives it."""

    place: str  # file.py or package.module
    name: str  # of the callable, such as make_net or Net.build
    typed: str = ""  # the arguments in parentheses; empty if there are no parentheses
    positional: Tuple[Any, ...] = ()
    keyword: Dict[str, Any] = {}  # noqa: RUF012 - never changed

    @property
    def has_arguments(self) -> bool:
        """Return whether the callable gets any argument."""
        return bool(self.positional or self.keyword)

    @property
    def arguments(self) -> str:
        """Return the arguments in one fixed form: the same for every way to type them."""
        named = sorted(self.keyword.items())
        return ", ".join(
            [repr(value) for value in self.positional]
            + [f"{name}={value!r}" for name, value in named]
        )


def read_call(spec: str) -> ModelCall:
    """Return the parts of ``spec``, the value of --model.

    Raises:
        UsageError: the arguments are not valid Python, or not literals.
    """
    if not _WITHOUT_ARGUMENTS.match(spec):
        problem: Optional[str] = None
        # The first colon may belong to the path, and a later one to an argument.
        for found in _OPENING.finditer(spec):
            place, typed = spec[: found.start()], spec[found.end(1) :].strip()
            if not place:
                continue
            try:
                node = ast.parse("f" + typed, mode="eval").body
            except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
                problem = problem or getattr(error, "msg", None) or "they are nested too deeply"
                continue
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                return _call(spec, place, found.group(1), typed, node)
            problem = problem or "there is something after the closing parenthesis"
        if problem is not None:
            raise UsageError(f"--model {spec}: cannot read the arguments: {problem}", EXAMPLE)
    place, _, name = spec.rpartition(":")
    return ModelCall(place, name)


def _call(spec: str, place: str, name: str, typed: str, node: ast.Call) -> ModelCall:
    source = "f" + typed
    positional: List[Any] = []
    for number, value in enumerate(node.args, 1):
        positional.append(_literal(spec, source, value, f"argument {number}", ""))
    keyword: Dict[str, Any] = {}
    for each in node.keywords:
        if each.arg is None:
            raise _no_literal(spec, "** cannot be used", EXAMPLE)
        if each.arg in keyword:
            raise UsageError(f"--model {spec}: the argument {each.arg} is given twice", EXAMPLE)
        what = f"the argument {each.arg}"
        keyword[each.arg] = _literal(spec, source, each.value, what, f"{each.arg}=")
    return ModelCall(place, name, typed, tuple(positional), keyword)


def _literal(spec: str, source: str, node: ast.AST, what: str, prefix: str) -> Any:
    """Return the value of an argument; raise UsageError if it is not a literal."""
    try:
        value = ast.literal_eval(node)
        repr(value)  # fails for whole numbers of thousands of digits
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = ...
    if _is_plain(value):
        return value
    hint = EXAMPLE
    if isinstance(node, ast.Name):
        other = _OTHER_LANGUAGES.get(node.id.lower())
        hint = (
            f"write {prefix}{other}" if other else f"for a string, add quotes: {prefix}'{node.id}'"
        )
    segment = getattr(ast, "get_source_segment", None)  # from Python 3.8 on
    text = segment(source, node) if segment is not None else None
    shown = f" ({prefix}{text})" if text else ""
    raise _no_literal(spec, f"{what}{shown} is not a literal", hint)


def _no_literal(spec: str, problem: str, hint: str) -> UsageError:
    return UsageError(f"--model {spec}: {problem}; arguments are literals only: {_LITERALS}", hint)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(one) for key, one in value.items())
    return value is None or isinstance(value, (str, bool, int, float, complex))
