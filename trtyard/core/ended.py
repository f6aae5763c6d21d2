"""How a conversion tells the host the exit code that it chose.

The model's code runs in the same process, and can end it with any exit code: ``os._exit(3)`` in its
functions, or in one that runs at exit. So the pipeline renames the request file when it is done.
That needs no space on a full disk. Standard library only, Python 3.6.
"""

import contextlib
from pathlib import Path
from typing import Optional

from trtyard.core.files import PARTIAL_PREFIX
from trtyard.core.request import REQUEST_FILE

_NAME = f"{PARTIAL_PREFIX}ended-"


def request_file(folder: Path) -> Path:
    """Return the path of the request in the output folder ``folder``."""
    return folder / f"{PARTIAL_PREFIX}{REQUEST_FILE}"


def leave_code(request: Path, code: int) -> None:
    """Record that the pipeline itself ends with ``code``; ``request`` is the request file."""
    with contextlib.suppress(OSError):
        request.rename(request.with_name(f"{_NAME}{code}"))


def code_in(folder: Path) -> Optional[int]:
    """Return the exit code that the pipeline recorded in the output folder, or None."""
    found = [one.name[len(_NAME) :] for one in folder.glob(f"{_NAME}*")]
    return int(found[0]) if found else None
