"""Import a user's code, with errors that name its file and line."""

import difflib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.shadowing import clash, is_elsewhere, module_in, refuse_clashes
from trtyard.pipeline.models.users_frame import users_frame


def find_callable(spec: str) -> Any:
    """Return the callable ``spec``, such as ``file.py:callable`` or ``module:callable``.

    Raises:
        UsageError: it does not exist, or importing the file or module fails.
    """
    place, _, name = spec.rpartition(":")
    if not place or not name:
        raise UsageError(
            f"{spec}: a module or file, a colon and a callable are expected",
            "--model my_package.nets:make_net, or --model nets.py:make_net",
        )
    from_file = place.endswith(".py") or "/" in place
    found = _import_file(place, spec) if from_file else _import_module(place, spec)
    for part in name.split("."):
        if not hasattr(found, part):
            callables = sorted(
                each for each in vars(found) if callable(getattr(found, each)) and each[0] != "_"
            )
            near = difflib.get_close_matches(part, callables, n=1, cutoff=0.0)
            raise UsageError(
                f"{place} has no '{name}'; it has: {', '.join(callables[:20]) or 'no callable'}",
                f"--model {place}:{near[0]}" if near else None,
            )
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{spec} is {type(found).__name__}, which cannot be called",
            "name a function or class that returns the nn.Module",
        )
    return found


def _import_file(place: str, spec: str) -> Any:
    path = Path(place).resolve()
    if not path.is_file():
        raise UsageError(f"{place}: no such file", "check the path before the colon")
    refuse_clashes(path, path.parent)
    _add_to_path(path.parent)  # for its imports of neighbouring files
    is_taken = path.stem in sys.modules or is_elsewhere(path.stem, path.parent)
    name = f"trtyard_own_{path.stem}" if is_taken else path.stem
    description = importlib.util.spec_from_file_location(name, str(path))
    if description is None or description.loader is None:
        raise UsageError(f"{place} is not a Python file", "its name must end with .py")
    module = importlib.util.module_from_spec(description)
    sys.modules[name] = module
    try:
        description.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise UsageError(f"{spec} cannot be imported: {where(error)}", "fix that first") from error
    return module


def _add_to_path(folder: Path) -> None:
    # At the end: a user's file named onnx.py must not hide the package.
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _import_module(place: str, spec: str) -> Any:
    if not re.match(r"\w+(\.\w+)*\Z", place):
        raise UsageError(
            f"{spec}: '{place}' is neither a module nor a file that ends with .py",
            "--model my_package.nets:make_net, or --model nets.py:make_net",
        )
    folder, top = Path.cwd(), place.partition(".")[0]
    beside = module_in(folder, top)
    if beside is not None:
        if is_elsewhere(top, folder):
            raise clash(top, beside, f"--model {spec} names")
        refuse_clashes(beside.parent if beside.name == "__init__.py" else beside, folder)
    _add_to_path(folder)
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place + ".").startswith(error.name + "."):
            raise UsageError(
                f"there is no module '{error.name}' in the current folder, nor installed",
                "start from the folder that holds it, or give the file: --model nets.py:make_net",
            ) from error
        raise UsageError(
            f"{spec} cannot be imported: {where(error)}",
            "install what it needs into this environment",
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UsageError(f"{spec} cannot be imported: {where(error)}", "fix that first") from error


def call(make: Any, spec: str) -> Any:
    """Return ``make()``; any exception becomes a UsageError."""
    try:
        return make()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise UsageError(
            f"{spec} raised when called without arguments: {where(error)}",
            "give a callable that needs no arguments and returns the nn.Module",
        ) from error


def where(error: BaseException) -> str:
    """Return the error in one line, with the last file and line outside torch and trtyard."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, SyntaxError):
        return f"{text} ({error.filename}, line {error.lineno})"
    frame = users_frame(error)
    return text if frame is None else f"{text} ({frame.filename}, line {frame.lineno})"
