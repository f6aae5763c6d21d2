"""From what bindings say of themselves (describe.py) to a stub file that a type checker reads."""

import ast
import keyword
import re

# Where a signature does not say enough.
RETURNS = {
    # pybind11 wrote the way to the object, not its type; Builder.get_plugin_registry has it.
    "get_plugin_registry": "IPluginRegistry",
}
# C++ names of classes that were bound after the function that cites them.
CPP_NAMES = {
    "IParserError": "ParserError",
    "IEngineInspector": "EngineInspector",
    "IBuilder": "Builder",
}
# What pybind11 converts: "The TensorRT API can implicitly convert Python iterables to Dims
# objects", str to what falls back for it, and one kind of list to the other.
ACCEPTED = {
    "Dims": "Dims | Sequence[builtins.int]",
    "FallbackString": "FallbackString | builtins.str",
    "PluginFieldCollection_": "PluginFieldCollection_ | PluginFieldCollection",
}
PLAIN = {"int", "float", "str", "bool", "bytes", "object", "list", "tuple", "dict"}
STANDARD = {
    "List": "builtins.list",
    "Tuple": "builtins.tuple",
    "Dict": "builtins.dict",
    "Sequence": "Sequence",
    "Iterable": "Iterable",
    "Iterator": "Iterator",
    "slice": "slice",
    "SupportsInt": "builtins.int",  # what is passed either way
    "SupportsFloat": "builtins.float",
    "Buffer": "Buffer",
    "buffer": "Buffer",
    "memoryview": "memoryview",
    "capsule": "builtins.object",
    "CapsuleType": "builtins.object",
    "handle": "builtins.object",
    "ndarray": "Any",
    "array": "Any",
    "Callable": "Any",
    "function": "Any",
}
HEADER = """\
# mypy: ignore-errors
import builtins
from collections.abc import Buffer, Iterable, Iterator, Sequence
from typing import Any, overload

__version__: builtins.str
"""


class StubWriter:
    """Writes one module. ``unknown`` collects the types that became Any."""

    def __init__(self, described):
        self.described = described
        self.classes = described["classes"]
        self.unknown = set()

    def text(self):
        lines = [HEADER]
        for name in self.classes:
            if "." not in name:
                lines += self.class_lines(name, "")
        lines += [f"{name}: {of}" for name, of in self.described["values"].items()]
        for name, doc in self.described["functions"].items():
            lines += self.function_lines(name, doc, "", RETURNS.get(name))
        return "\n".join(lines) + "\n"

    def class_lines(self, qualified, indent):
        found = self.classes[qualified]
        bases = f"({', '.join(found['bases'])})" if found["bases"] else ""
        lines = [f"{indent}class {qualified.rpartition('.')[2]}{bases}:"]
        inner = indent + "    "
        members = found["members"]
        for name, member in members.items():
            if member["kind"] == "class" and member["of"] == f"{qualified}.{name}":
                lines += self.class_lines(member["of"], inner)
            elif member["kind"] == "class":
                lines.append(f"{inner}{name} = {member['of']}")
            elif member["kind"] == "value":
                lines.append(f"{inner}{name}: {member['of']}")
            elif member["kind"] == "property":
                lines += self.property_lines(name, member, inner)
            else:
                lines += self.function_lines(name, member["doc"], inner)
        lines += self.protocol_lines(qualified, members, inner)
        return lines if len(lines) > 1 else [lines[0] + " ..."]

    def protocol_lines(self, qualified, members, indent):
        lines = []
        # What Python makes of these two by itself.
        if {"__getitem__", "__len__"} <= set(members) and "__iter__" not in members:
            lines.append(f"{indent}def __iter__(self) -> Iterator[Any]: ...")
        if self.classes[qualified]["gives_memory"] and "__buffer__" not in members:
            lines.append(f"{indent}def __buffer__(self, flags: builtins.int, /) -> memoryview: ...")
        return lines

    def property_lines(self, name, member, indent):
        returned = member["doc"].partition("\n")[0].rpartition("->")[2].strip()
        kind = self.type_of(returned) if returned else "Any"
        lines = [f"{indent}@property", f"{indent}def {name}(self) -> {kind}: ..."]
        if member["settable"]:
            accepted = ACCEPTED.get(kind, kind)
            lines += [
                f"{indent}@{name}.setter",
                f"{indent}def {name}(self, value: {accepted}) -> None: ...",
            ]
        return lines

    def function_lines(self, name, doc, indent, returns=None):
        signatures = signatures_in(name, doc)
        if not signatures:  # written in Python, or a slot of C
            first = "self, " if indent else ""
            kind = "None" if name == "__init__" else "Any"
            return [f"{indent}def {name}({first}*args: Any, **kwargs: Any) -> {kind}: ..."]
        lines = []
        for arguments, returned in signatures:
            lines += [f"{indent}@overload"] if len(signatures) > 1 else []
            parameters = ", ".join(self.parameters(arguments, in_class=bool(indent)))
            kind = returns or self.type_of(returned)
            lines.append(f"{indent}def {name}({parameters}) -> {kind}: ...")
        return lines

    def parameters(self, arguments, *, in_class):
        optional = False
        for number, (name, kind, has_default) in enumerate(arguments):
            if in_class and number == 0:
                yield "self"
                continue
            # `batch_size: int = 1, bindings: List[int]` is not Python; all after it have one too.
            optional = optional or has_default
            name += "_" if keyword.iskeyword(name) else ""
            accepted = self.type_of(kind)
            accepted = re.sub(
                rf"\b({'|'.join(ACCEPTED)})\b", lambda match: ACCEPTED[match[0]], accepted
            )
            accepted += " | None" if has_default == "None" else ""
            yield f"{name}: {accepted}" + (" = ..." if optional else "")

    def type_of(self, text):
        text = text.strip().replace(self.described["prefix"], "")
        while "::" in text:
            text = re.sub(r"[\w:]+(?:<[^>]*>)?", lambda match: self.from_cpp(match[0]), text)
        try:
            return self.rewritten(ast.parse(text, mode="eval").body)
        except (SyntaxError, ValueError):
            self.unknown.add(text)
            return "Any"

    def from_cpp(self, name):
        if "::" not in name:
            return name
        parts = name.split("::")
        nested = ".".join(parts[-2:])
        found = nested if nested in self.classes else CPP_NAMES.get(parts[-1], parts[-1])
        if found not in self.classes:
            self.unknown.add(name)
            return "Any"
        return found

    def rewritten(self, node):
        if isinstance(node, ast.Constant) and node.value is None:
            return "None"
        if isinstance(node, ast.Subscript):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            outer = self.rewritten(node.value)
            if outer == "Any":
                return "Any"
            return f"{outer}[{', '.join(self.rewritten(each) for each in inner)}]"
        if isinstance(node, ast.BinOp):
            return f"{self.rewritten(node.left)} | {self.rewritten(node.right)}"
        name = ast.unparse(node)
        if name in self.classes or name in ("Any", "None"):
            return name
        if name in PLAIN:
            return f"builtins.{name}"  # bool is a DataType of the module as well
        if name.rpartition(".")[2] in STANDARD:
            return STANDARD[name.rpartition(".")[2]]
        self.unknown.add(name)
        return "Any"


def signatures_in(name, doc):
    """Return pybind11's signatures, each as its arguments (name, type, default) and its result."""
    # An alias keeps the documentation of what it was bound as.
    lines = re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> (.*)$", doc, re.MULTILINE)
    return [(list(arguments_in(text)), returned) for text, returned in lines]


def arguments_in(text):
    """Return each argument of a signature: its name, its type, and its default or nothing."""
    for part in split_at_commas(text):
        declared, _, default = part.partition(" = ")
        name, _, kind = declared.partition(":")
        if name.strip() not in ("", "/", "*", "*args", "**kwargs"):
            yield name.strip(), kind.strip() or "Any", default.strip()


def split_at_commas(text):
    """Split at the commas that no bracket or quote holds; `<Severity.WARNING: 2>` is one."""
    depth, parts = 0, [""]
    for character in re.sub(r"'[^']*'", "''", text):
        depth += (character in "[(<") - (character in "])>")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts
