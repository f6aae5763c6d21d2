"""The folder with the packages that a model needs beside those of its row.

The host makes it: ``packages.json`` says what was asked for and installed, ``site-packages`` holds
the modules. Standard library only, Python 3.6.
"""

import json
import sys
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError
from trtyard.core.report import Package, Packages

FACTS_FILE = "packages.json"
MODULES = "site-packages"


def read_packages(folder: Path) -> Packages:
    """Return what ``folder`` holds.

    Raises:
        EnvironmentLacksError: it is not such a folder.
    """
    try:
        value = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        installed = tuple(Package(**each) for each in value["installed"])
        return Packages(tuple(value["asked"]), installed)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EnvironmentLacksError(
            f"{folder} does not hold the packages of --with: {error}",
            "run ./run clean, then the same command again",
        ) from error


def add_packages(folder: Path) -> Packages:
    """Add the modules in ``folder`` to the path, after those of the row; return what they are."""
    found = read_packages(folder)
    sys.path.append(str(folder / MODULES))
    return found
