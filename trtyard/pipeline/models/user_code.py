"""Import a user's code, with errors that name its file and line."""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Iterator, List, Optional

from trtyard.core.errors import UsageError
from trtyard.core.model_call import EXAMPLE, ModelCall, read_call
from trtyard.pipeline.models.shadowing import clash, is_elsewhere, module_in, refuse_clashes
from trtyard.pipeline.models.users_frame import users_frame

ENDS = "the code ends the process: raise an exception instead, or remove the exit"

_LONGEST_SIGNATURE = 400  # characters
_MISSING = "if {0} is a package, add it: --with {0}   (the package's name may differ)"
_EMPTY = inspect.Parameter.empty
_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def find_callable(spec: str) -> Any:
    """Return the callable ``spec``, such as ``file.py:callable`` or ``module:callable``.

    Raises:
        UsageError: it does not exist, or importing the file or module fails.
    """
    call = read_call(spec)
    place, name = call.place, call.name
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
                f"--model {shlex.quote(f'{place}:{near[0]}{call.typed}')}" if near else None,
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
        with streams_kept(spec):
            description.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        del sys.modules[name]
        raise _not_imported(spec, error) from error
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
        with streams_kept(spec):
            return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is not None and (place + ".").startswith(error.name + "."):
            raise UsageError(
                f"there is no module '{error.name}' in the current folder, nor installed",
                "start from the folder that holds it, or give the file: --model nets.py:make_net",
            ) from error
        raise _not_imported(spec, error) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise _not_imported(spec, error) from error


def _not_imported(spec: str, error: BaseException) -> UsageError:
    if isinstance(error, UsageError):  # of streams_kept
        return error
    hint = "fix this in your code first"
    if isinstance(error, ModuleNotFoundError):
        hint = _MISSING.format(error.name)
    if isinstance(error, SystemExit):
        hint = "import ends the process: move that code below  if __name__ == '__main__':"
    return UsageError(f"{spec} cannot be imported: {where(error)}", hint, _log_of(error))


def _log_of(error: BaseException) -> Optional[str]:
    """Return the text in which the host looks for a known cause; None if it is the user's code."""
    return f"{type(error).__name__}: {error}" if isinstance(error, ImportError) else None


@contextlib.contextmanager
def streams_kept(spec: str) -> Iterator[None]:
    """Restore ``sys.stdout`` and ``sys.stderr``, which the user's code may replace."""
    kept = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept
    for name, other in (("stdout", sys.stderr), ("stderr", sys.stdout)):
        if getattr(sys, name).closed:
            setattr(sys, name, other)  # for what follows the error
            raise UsageError(f"{spec} closes sys.{name}", "remove that from your code")


def call(make: Any, spec: str) -> Any:
    """Return what ``make`` returns for the arguments in ``spec``.

    Raises:
        UsageError: it raises an exception, or does not accept the arguments.
    """
    asked = read_call(spec)
    try:
        with streams_kept(spec):
            return make(*asked.positional, **asked.keyword)
    except UsageError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        if isinstance(error, TypeError):
            _refuse_arguments(make, asked, spec, error)
        if isinstance(error, ImportError):
            is_missing = isinstance(error, ModuleNotFoundError)
            hint = _MISSING.format(error.name) if is_missing else "fix this in your code first"
            raise UsageError(
                f"{spec} raised when called: {where(error)}", hint, _log_of(error)
            ) from error
        how, hint = (
            " without arguments",
            f"give a callable that needs no arguments, or give them: {EXAMPLE}",
        )
        if asked.has_arguments:
            how, hint = "", "check the arguments, and the line that raised"
        if isinstance(error, SystemExit):
            hint = ENDS
        raise UsageError(f"{spec} raised when called{how}: {where(error)}", hint) from error


def _refuse_arguments(make: Any, asked: ModelCall, spec: str, error: TypeError) -> None:
    """Raise a UsageError with the signature of ``make`` if that does not take the arguments."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # some callables have none
        return
    try:
        signature.bind(*asked.positional, **asked.keyword)
        return
    except TypeError:
        pass
    shown = " ".join(str(signature).split())
    if len(shown) > _LONGEST_SIGNATURE:
        shown = f"({', '.join(signature.parameters)})"
    raise UsageError(
        f"{spec} cannot be called: {where(error)}; its signature is {asked.name}{shown}",
        _fitting(signature, asked),
    ) from error


def _fitting(signature: inspect.Signature, asked: ModelCall) -> str:
    """Return a hint with arguments that the signature takes."""
    names = [name for name, one in signature.parameters.items() if one.kind not in _STARRED]
    for name in asked.keyword:
        near: List[str] = difflib.get_close_matches(name, names, n=1)
        if name not in names and near:
            return f"{name} may be {near[0]}"
    if not names:
        return f"--model {shlex.quote(f'{asked.place}:{asked.name}')}"
    needed = [name for name in names if signature.parameters[name].default is _EMPTY]
    shown = ", ".join(f"{name}=..." for name in (needed or names[:1]))
    call = shlex.quote(f"{asked.place}:{asked.name}({shown})")
    return f"give literals: --model {call}"


def where(error: BaseException) -> str:
    """Return the error in one line, with the last file and line outside torch and trtyard."""
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, SyntaxError):
        return f"{text} ({error.filename}, line {error.lineno})"
    frame = users_frame(error)
    return text if frame is None else f"{text} ({frame.filename}, line {frame.lineno})"
