"""Known failures of exporters, TensorRT, ONNX Runtime, compilers, installers and Docker.

One entry per failure, in the order in which a conversion meets them. More specific entries come
first. Standard library only: the command line imports it without a row's environment.
"""

from trtyard.known_failures.building import BUILDING
from trtyard.known_failures.checkpoints import CHECKPOINTS
from trtyard.known_failures.compiling import COMPILING
from trtyard.known_failures.containers import CONTAINERS
from trtyard.known_failures.device import DEVICE
from trtyard.known_failures.entry import KnownFailure
from trtyard.known_failures.export_forms import EXPORT_FORMS
from trtyard.known_failures.exporting import EXPORTING
from trtyard.known_failures.images import IMAGES
from trtyard.known_failures.installing import INSTALLING
from trtyard.known_failures.libraries import LIBRARIES
from trtyard.known_failures.parser_forms import PARSER_FORMS
from trtyard.known_failures.parsing import PARSING
from trtyard.known_failures.running import RUNNING
from trtyard.known_failures.setting_up import SETTING_UP
from trtyard.known_failures.symptoms import SYMPTOMS

KNOWN_FAILURES: tuple[KnownFailure, ...] = (
    *CHECKPOINTS,
    *EXPORTING,
    *EXPORT_FORMS,
    *PARSING,
    *PARSER_FORMS,
    *BUILDING,
    *LIBRARIES,
    *SETTING_UP,
    *DEVICE,
    *RUNNING,
    *COMPILING,
    *IMAGES,
    *CONTAINERS,
    *INSTALLING,
    *SYMPTOMS,
)

_BY_NAME = {one.name: one for one in KNOWN_FAILURES}

__all__ = ["KNOWN_FAILURES", "KnownFailure", "named"]


def named(name: str) -> KnownFailure:
    """Return the entry with that name.

    Raises:
        KeyError: there is no such entry.
    """
    return _BY_NAME[name]
