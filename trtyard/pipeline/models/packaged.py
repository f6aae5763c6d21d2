"""Import the package of a short form, which may be missing in this environment."""

import importlib
import shlex
from typing import Any

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.short_forms import PACKAGES, short_form
from trtyard.pipeline.models.user_code import where


def package_of(spec: str) -> Any:
    """Return the module of the package that the short form ``spec`` is about.

    Raises:
        EnvironmentLacksError: it is not installed here, or cannot be imported.
    """
    name = PACKAGES[short_form(spec) or ""]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise _broken(name, error) from error
        raise EnvironmentLacksError(
            f"--model {spec}: the package {name} is not installed in this environment",
            f"./run convert --model {shlex.quote(spec)} --with {name}",
        ) from error
    except Exception as error:  # a package's code may raise anything
        raise _broken(name, error) from error


def _broken(name: str, error: BaseException) -> EnvironmentLacksError:
    return EnvironmentLacksError(
        f"the package {name} cannot be imported: {where(error)}",
        f"choose another release of it: --with {name}==VERSION",
        f"{type(error).__name__}: {error}",
    )
