"""Find the custom ops. Each folder ``<name>_op`` next to this file is one op.

Users call the function ``trtyard.pipeline.ops.<name>``. The folder has the suffix ``_op`` because
importing a subpackage binds its name in the package, which would replace the function.

Only the contracts are imported here, because they need no package. The other modules may need
torch, onnx or TensorRT. "Add an op" in docs/plugins.md describes each module.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Any, Tuple

from trtyard.pipeline.ops.contract import Op

_ENDING = "_op"


def _found() -> Tuple[Op, ...]:
    modules = pkgutil.iter_modules([str(Path(__file__).parent)])
    folders = sorted(one.name for one in modules if one.ispkg and one.name.endswith(_ENDING))
    return tuple(_part(folder, "contract").OP for folder in folders)


def _part(folder: str, name: str) -> Any:
    return importlib.import_module(f"{__package__}.{folder}.{name}")


def part(op: Op, name: str) -> Any:
    """Return a module of an op's folder, such as its "onnx_function"."""
    return _part(op.name + _ENDING, name)


def torch_op(name: str) -> Any:
    """Return the function that users call for the op with that name."""
    return getattr(_part(name + _ENDING, "torch_op"), name)


OPS = _found()
NAMES = tuple(op.name for op in OPS)
OP_TYPES = tuple(op.op_type for op in OPS)
# TensorRT gets these ops as plugins, and the others as function bodies.
WITH_PLUGIN = tuple(op for op in OPS if op.has_plugin)
PLUGIN_TYPES = tuple(op.op_type for op in WITH_PLUGIN)
FUNCTION_TYPES = tuple(op_type for op_type in OP_TYPES if op_type not in PLUGIN_TYPES)
