"""The families of models: every module in this folder registers one, as its FAMILY.

None of them imports torch before it loads a model. See "Add a model family" in docs/models.md.
"""

import importlib
import pkgutil
from typing import Tuple

from trtyard.pipeline.models.family import Family
from trtyard.pipeline.parity.kind import Kind


def _found() -> Tuple[Family, ...]:
    names = sorted(one.name for one in pkgutil.iter_modules(__path__))
    return tuple(importlib.import_module(f"{__name__}.{name}").FAMILY for name in names)


FAMILIES = _found()
KINDS = tuple(kind for family in FAMILIES for kind in (family.kind, *family.other_kinds))


def kind_of(name: str) -> Kind:
    """Return the kind of that name, which ``Model.kind`` holds.

    Raises:
        ValueError: no family has it.
    """
    for kind in KINDS:
        if kind.name == name:
            return kind
    raise ValueError(f"no family has the kind {name}; known are {[kind.name for kind in KINDS]}")
