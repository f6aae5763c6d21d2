"""Find user files that have the name of a module of Python or of the row.

The row's packages come first on the path, so such a file is never imported. An import of that name
in the user's code is ambiguous.
"""

import ast
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Iterator, List, Optional, Set, Tuple

from trtyard.core.errors import UsageError

_MOST_FILES = 500  # limit of files read in a package


def refuse_clashes(start: Path, folder: Path) -> None:
    """Raise a UsageError if user code imports a name that a user file and the row both have.

    Args:
        start: the user's file that is imported, or a package's folder.
        folder: where Python looks for the user's imports, after the row's packages.
    """
    waiting: List[Path] = [start]
    seen: Set[str] = set()
    while waiting:
        for file in _sources(waiting.pop()):
            for name, line in _imports(file):
                beside = None if name in seen else module_in(folder, name)
                seen.add(name)
                if beside is None or beside == start:  # the file does not import itself
                    continue
                if is_elsewhere(name, folder):
                    raise clash(name, beside, f"{file}, line {line}, imports")
                waiting.append(beside.parent if beside.name == "__init__.py" else beside)


def clash(name: str, beside: Path, who: str) -> UsageError:
    """Return the error for a user's module that the row has too."""
    shown = beside.parent if beside.name == "__init__.py" else beside
    return UsageError(
        f"{who} {name}, which is both {shown} and a module of this row's Python: the row's comes "
        "first",
        f"rename {shown}, or move it out of {shown.parent}",
    )


def module_in(folder: Path, name: str) -> Optional[Path]:
    """Return the file of the module ``name`` in ``folder``, or None."""
    for file in (folder / name / "__init__.py", folder / f"{name}.py"):
        if file.is_file():
            return file
    return None


def is_elsewhere(name: str, folder: Path) -> bool:
    """Return whether Python finds the top-level module ``name`` outside ``folder``."""
    if name in sys.builtin_module_names:
        return True
    places = [place for place in sys.path if place and Path(place).resolve() != folder.resolve()]
    found = PathFinder.find_spec(name, places)
    return found is not None and found.origin is not None


def _sources(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(place.rglob("*.py"))[:_MOST_FILES]
    else:
        yield place


def _imports(file: Path) -> Iterator[Tuple[str, int]]:
    """Yield the top-level name and line of each absolute import in a file.

    Nothing for a file that does not parse.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return  # the later import raises the error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                yield one.name.partition(".")[0], node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0], node.lineno
