"""Use torch's symbolic functions with and without the patches in one process.

The files on disk may be patched or not. The other version is computed from the files and the
patches, and replaces torch's modules inside a block. So one process exports the graph for TensorRT
with the patches, and its twin for ONNX Runtime without them.
"""

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple

import torch

from trtyard.core.errors import IntegrityError
from trtyard.core.patches.patch_set import Patch, deciding_releases, read_series
from trtyard.core.patches.patching import FileState, states
from trtyard.pipeline.row import Row

PATCHES = Path(__file__).resolve().parents[3] / "patches" / "torch"

_SYMBOLICS = re.compile(r"torch/onnx/symbolic_opset(\d+)\.py")
_OWN_DOMAIN = ""  # torch's name for its own ops; others are from register_custom_op_symbolic


def releases_of(row: Row) -> Dict[str, str]:
    """Return the releases that select the row's patches, with the installed torch."""
    return deciding_releases(row.flavour, row.tensorrt, torch.__version__.partition("+")[0])


def patches_of_torch() -> Tuple[Patch, ...]:
    """Return the series for the installed torch; empty if there is none."""
    series = PATCHES / torch.__version__.partition("+")[0]
    return read_series(series) if series.is_dir() else ()


def patched_files(releases: Optional[Mapping[str, str]] = None) -> Tuple[FileState, ...]:
    """Return the files of the installed torch that patches change, unpatched and patched.

    Args:
        releases: product to version (``torch``, ``tensorrt``); None selects every patch.

    Raises:
        IntegrityError: a file is neither PyTorch's nor the patched one.
    """
    return states(patches_of_torch(), Path(torch.__file__).resolve().parents[1], releases)


def is_patched() -> bool:
    """Return whether the installed torch has all its patches; True if it needs none."""
    return all(one.is_patched for one in patched_files())


@contextlib.contextmanager
def symbolics(*, patched: bool, releases: Optional[Mapping[str, str]] = None) -> Iterator[None]:
    """Export with or without torch's patches inside the block.

    Nothing on disk changes. If this torch has no patches, the block runs unchanged.

    Args:
        patched: whether to use the patches.
        releases: as for ``patched_files``.

    Raises:
        IntegrityError: a file is neither PyTorch's nor the patched one.
    """
    files = [one for one in patched_files(releases) if one.is_patched != patched]
    if not files:
        yield
        return
    registry = importlib.import_module("torch.onnx.symbolic_registry")
    versions: Dict[int, ModuleType] = registry._symbolic_versions
    ours = {_opset(one.path): _module(one, patched) for one in files}
    theirs = {opset: versions[opset] for opset in ours}
    kept = _taken_out(registry)
    try:
        _put_in(versions, ours)
        yield
    finally:
        _put_in(versions, theirs)
        _taken_out(registry)
        registry._registry.update(kept)


def _opset(path: str) -> int:
    match = _SYMBOLICS.fullmatch(path)
    if match is None:
        raise IntegrityError(
            f"{path} holds no symbolic functions of an opset, so it cannot be exchanged in a"
            " running process",
            "patch it in the environment",
        )
    return int(match.group(1))


def _module(file: FileState, patched: bool) -> ModuleType:
    text = file.patched if patched else file.upstream
    name = file.path[: -len(".py")].replace("/", ".")
    loader = _Text((text or b"").decode("utf-8"))
    spec = importlib.machinery.ModuleSpec(name, loader, origin=f"{file.path}, patched: {patched}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


class _Text(importlib.abc.InspectLoader):
    """Loads a module from text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_source(self, fullname: str) -> str:  # noqa: ARG002 - the loader's interface
        return self._text


def _put_in(versions: Dict[int, ModuleType], modules: Mapping[int, ModuleType]) -> None:
    """Set the modules everywhere that torch looks for them."""
    for opset, module in modules.items():
        versions[opset] = module
        sys.modules[module.__name__] = module
        setattr(torch.onnx, module.__name__.rpartition(".")[2], module)


def _taken_out(registry: Any) -> Dict[Tuple[str, int], Any]:
    """Remove the tables of torch's own ops from the registry, which reloads them on demand."""
    own = [key for key in registry._registry if key[0] == _OWN_DOMAIN]
    return {key: registry._registry.pop(key) for key in own}
