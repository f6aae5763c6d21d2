"""The packages that a model needs: ``--with``, a requirements.txt, or the model file's own block.

The block is inline script metadata (PEP 723). All of them give requirements by name; anything that
would change where packages come from is refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from trtyard.core.errors import UsageError
from trtyard.core.short_forms import FOR_TORCHSCRIPT, PACKAGES, REQUIREMENTS, short_form
from trtyard.core.typed_paths import typed_path
from trtyard.system.reading import parse_toml

_FILE_ENDING = ".txt"
_LOGIN = re.compile(r"(?<=://)[^/\s]+@")
_ARCHIVES = (".whl", ".gz", ".zip")
# The pattern of PEP 723 for every kind of block.
_BLOCK = re.compile(
    r"^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$", re.MULTILINE
)
_OPENING = re.compile(r"^# /// script\s*$", re.MULTILINE)
_EXAMPLE = '# /// script\n  # dependencies = ["timm==1.0.31"]\n  # ///'


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One requirement and where it stands."""

    requirement: Requirement
    place: str  # such as "--with timm" or "nets.py", for messages

    @property
    def name(self) -> str:
        """The package's normalised name."""
        return canonicalize_name(self.requirement.name)

    @property
    def shown(self) -> str:
        """The place and the requirement, for messages."""
        return self.place if str(self) in self.place else f"{self.place}: {self}"

    def __str__(self) -> str:
        """Return the requirement in one fixed form."""
        return str(self.requirement)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """All packages that a model needs beside its row's."""

    asked: tuple[Asked, ...] = ()
    pythons: SpecifierSet | None = None  # the Pythons that the model's file supports
    file: Path | None = None  # the model's file, if it has a block

    def __bool__(self) -> bool:
        """Return whether there is any package."""
        return bool(self.asked)

    @property
    def texts(self) -> tuple[str, ...]:
        """The requirements, sorted and each once."""
        return tuple(sorted({str(one) for one in self.asked}))


NO_REQUIREMENTS = Requirements()


def read_requirements(
    model: str, words: Sequence[str] | None, model_file: Path | None, exporter: str = "dynamo"
) -> Requirements:
    """Return the packages that ``--with``, the model's file and a short form ask for.

    Args:
        model: the value of --model.
        words: the values of --with.
        model_file: the file of the model's callable, or None.
        exporter: the row's.

    Raises:
        UsageError: a requirement, the file or the block is malformed or not supported.
    """
    asked = [one for word in words or () for one in _of_word(word)]
    pythons, file = None, None
    block = None if model_file is None else _block_of(model_file)
    if block is not None and model_file is not None:
        file = model_file
        pythons = block.pythons
        asked += block.asked
    form = short_form(model)
    if form is not None and PACKAGES[form] not in {one.name for one in asked}:
        text = REQUIREMENTS[form]
        if exporter == "torchscript":
            text = FOR_TORCHSCRIPT.get(form, text)
        asked.append(Asked(requirement=Requirement(text), place=f"--model {form}:"))
    return Requirements(asked=tuple(asked), pythons=pythons, file=file)


def _of_word(word: str) -> Iterator[Asked]:
    if word.lower().endswith(_FILE_ENDING):
        yield from _of_file(typed_path(word))
    else:
        yield _asked(word, f"--with {word}")


def _of_file(file: Path) -> Iterator[Asked]:
    """Yield the requirements of a requirements.txt."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise UsageError(f"--with {file}: cannot read the file: {reason}") from None
    for number, line in enumerate(text.splitlines(), 1):
        words = re.sub(r"(^|\s)#.*$", "", line).strip()
        if words:
            yield _asked(words, f"{file}, line {number}")


def _asked(text: str, place: str) -> Asked:
    shown = _LOGIN.sub("***@", place if text in place else f"{place}: {text}")
    first = [*text.split(), ""][0]
    if text.startswith("-") or "--hash" in text or text.endswith("\\"):
        raise UsageError(
            f"{shown}: options are not supported here, only packages by name",
            "give only names and versions. To choose an index, set UV_DEFAULT_INDEX or UV_INDEX;"
            " the report records the sha256 of each package"
            if not first.startswith(("-e", "--editable"))
            else "build a wheel of it, put it on an index, and name it; or add its code beside the"
            " model's file",
        )
    if "/" in first or first.endswith(_ARCHIVES):
        raise _no_address(shown)
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{shown}: not a valid requirement: {reason}",
            "for example --with timm, --with timm==1.0.31, or --with 'timm>=1.0,<2'",
        ) from None
    if requirement.url is not None:
        raise _no_address(shown)
    return Asked(requirement=requirement, place=place)


def _no_address(shown: str) -> UsageError:
    return UsageError(
        f"{shown}: URLs and paths are not supported, only packages of an index by name",
        "name a release that is on the index: --with NAME==VERSION. To use another index, set"
        " UV_INDEX or UV_FIND_LINKS",
    )


def _block_of(file: Path) -> Requirements | None:
    """Return what the ``# /// script`` block of a Python file asks for, or None without one."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None  # the pipeline reports it when it imports the file
    opened = _OPENING.findall(text)
    if not opened:
        return None
    found = [one for one in _BLOCK.finditer(text) if one["type"] == "script"]
    if len(opened) > 1:
        raise UsageError(f"{file}: there are {len(opened)} '# /// script' blocks", "keep one")
    if not found:
        raise UsageError(
            f"{file}: the '# /// script' block has no end, or a line of it does not start with"
            " '# '",
            f"write it like this:\n  {_EXAMPLE}",
        )
    lines = found[0]["content"].splitlines()
    try:
        table = parse_toml("\n".join(line[2:] if line[1:2] == " " else line[1:] for line in lines))
    except ValueError as error:
        raise UsageError(
            f"{file}: the '# /// script' block is not valid TOML: {error}",
            f"write it like this:\n  {_EXAMPLE}",
        ) from None
    return _of_table(table, file)


def _of_table(table: dict[str, object], file: Path) -> Requirements:
    dependencies = table.get("dependencies", [])
    if not isinstance(dependencies, list) or not all(isinstance(one, str) for one in dependencies):
        raise UsageError(
            f"{file}: dependencies in the '# /// script' block must be a list of strings",
            f"write it like this:\n  {_EXAMPLE}",
        )
    tool = table.get("tool")
    if isinstance(tool, dict) and "uv" in tool:
        raise UsageError(
            f"{file}: [tool.uv] in the '# /// script' block is not supported",
            "leave it out. To choose an index, set UV_DEFAULT_INDEX or UV_INDEX",
        )
    pythons = None
    if "requires-python" in table:
        try:
            pythons = SpecifierSet(str(table["requires-python"]))
        except InvalidSpecifier:
            raise UsageError(
                f"{file}: requires-python in the '# /// script' block is not valid:"
                f" {table['requires-python']!r}",
                'for example: # requires-python = ">=3.10"',
            ) from None
    asked = tuple(_asked(one, f"{file}, block '# /// script': {one}") for one in dependencies)
    return Requirements(asked=asked, pythons=pythons, file=file)
