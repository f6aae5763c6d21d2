"""A temporary place for what ``torch.compile`` compiles."""

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Iterator, Optional

import torch

from trtyard.pipeline.export.quiet import output_kept_away

# Without these variables the files stay in the user's folders.
_CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


@contextlib.contextmanager
def temporary_inductor() -> Iterator[None]:
    """Have ``torch.compile`` leave no files, and compile if torch's path has a space."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        for name in _CACHES:
            stack.callback(_set_variable, name, os.environ.get(name))
            os.environ[name] = folder
        if hasattr(torch, "compile"):
            _place_compiler(stack, Path(folder))
        yield


def _place_compiler(stack: contextlib.ExitStack, folder: Path) -> None:
    with output_kept_away():  # a warning about a machine without a GPU
        from torch._inductor import config
        from torch.utils import cpp_extension

    # Inductor splits the compiler's command at spaces, so it gets a path without any.
    torch_folder = folder / "torch"
    torch_folder.symlink_to(Path(torch.__file__).resolve().parent)
    for module, name, value in (
        (cpp_extension, "_TORCH_PATH", str(torch_folder)),
        (cpp_extension, "TORCH_LIB_PATH", str(torch_folder / "lib")),
        (config, "cpp_cache_precompile_headers", False),  # these are kept outside the cache
    ):
        if hasattr(module, name):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, value)


def _set_variable(name: str, value: Optional[str]) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
