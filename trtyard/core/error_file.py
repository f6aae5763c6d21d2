"""How a command in a row's environment gives its error to the host, which adds cause and fix."""

import json
import os
from pathlib import Path

from trtyard.core.errors import TrtyardError
from trtyard.core.files import write_json

VARIABLE = "TRTYARD_ERROR_FILE"  # names the file; the host sets it


def give_to_host(error: TrtyardError) -> bool:
    """Write the error for the host; return False if no host waits for it."""
    name = os.environ.get(VARIABLE)
    if not name:
        return False
    try:
        write_json(Path(name), {"message": error.message, "hint": error.hint, "log": error.log})
    except OSError:
        return False
    return True


def error_in(file: Path) -> TrtyardError:
    """Return the error that ``give_to_host`` has written into ``file``."""
    return TrtyardError(**json.loads(file.read_text(encoding="utf-8")))
