"""Load a published checkpoint with a torch that has no ``weights_only``, without running its code.

The unpickler knows the names that a state dict needs, and refuses all others.
"""

import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from trtyard.core.files import sha256_of
from trtyard.core.published_weights import digits_in

_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
}


def has_own_hash(path: str) -> bool:
    """Return whether the name of the file has the first digits of its sha256."""
    digits = digits_in(path)
    return bool(digits) and sha256_of(Path(path)).startswith(digits)


def load_only_tensors(path: str) -> Any:
    """Return the content of a checkpoint that has only tensors.

    Raises:
        pickle.UnpicklingError: it has something else.
    """

    def load(stream: Any, **options: Any) -> Any:
        return _Unpickler(stream, **options).load()

    known = SimpleNamespace(Unpickler=_Unpickler, load=load, __name__="pickle")
    return torch.load(path, map_location="cpu", pickle_module=known)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return a class or function that a state dict needs."""
        is_storage = module == "torch" and re.match(r"[A-Z][a-z]+Storage\Z", name)
        if not is_storage and (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return super().find_class(module, name)
