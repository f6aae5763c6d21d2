"""The plugins of a shell library, driven as TensorRT drives them, on torch tensors.

``plugin_harness.cpp`` does the calls; this compiles it and gives it device pointers. A process
takes one release: the types of two differ under the same names, and V2 libraries register where
they first can.
"""

import ctypes
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from trtyard.core.plugins.compile_plugins import find_nvcc
from trtyard.core.plugins.cuda_compiler import toolkit_of

SOURCE = Path(__file__).with_name("plugin_harness.cpp")
CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.int32: 3}
ALIGNMENT = 256  # what TensorRT gives a workspace
MOST_RANK = 8
HWC, HWC8 = 1, 2  # Tensor.format

_POINTER, _INT, _LONG, _TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_char_p


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("type", _INT), ("rank", _INT), ("format", _INT), ("size", _LONG * MOST_RANK)
    ]  # fmt: skip


class Formatted(NamedTuple):
    """A tensor [N, C, H, W] that lies in memory as TensorRT's kHWC (1) or kHWC8 (2) does."""

    memory: torch.Tensor
    shape: "tuple[int, ...]"
    format: int

    @classmethod
    def of(cls, tensor: torch.Tensor, layout: int) -> "Formatted":
        last = tensor.permute(0, 2, 3, 1)
        padding = -last.shape[3] % 8 if layout == HWC8 else 0
        padded = torch.nn.functional.pad(last, (0, padding), value=float("nan"))
        return cls(padded.contiguous(), tuple(tensor.shape), layout)

    def linear(self) -> torch.Tensor:
        return self.memory[..., : self.shape[1]].permute(0, 3, 1, 2).contiguous()


Held = torch.Tensor | Formatted


def _describe(tensors: "Sequence[Held]") -> "ctypes.Array[_Tensor]":
    described = (_Tensor * len(tensors))()
    for one, held in zip(described, tensors):
        is_formatted = isinstance(held, Formatted)
        memory, shape = (held.memory, held.shape) if is_formatted else (held, tuple(held.shape))
        assert memory.is_contiguous()
        one.type, one.rank, one.format = CODES[memory.dtype], len(shape), 0
        if is_formatted:
            one.format = held.format
        one.size[: len(shape)] = shape
    return described


def _pointers(tensors: "Sequence[Held]") -> "ctypes.Array[_POINTER]":
    memories = [held.memory if isinstance(held, Formatted) else held for held in tensors]
    assert all(memory.is_cuda for memory in memories)
    return (_POINTER * len(tensors))(*[memory.data_ptr() for memory in memories])


class Harness:
    """One library with plugins, loaded through the registry of TensorRT's ``tensorrt`` library."""

    loaded = False

    def __init__(self, headers: Path, plugins: Path, tensorrt: "Path | None", folder: Path) -> None:
        assert not Harness.loaded, "one release a process"
        Harness.loaded = True
        library = folder / "libharness.so"
        includes = ["-isystem", str(headers), "-isystem", str(toolkit_of(find_nvcc()) / "include")]
        flags = ["-std=c++17", "-shared", "-fPIC", "-Wall", "-Wextra", "-O1"]
        subprocess.run(
            ["g++", *flags, *includes, str(SOURCE), "-o", str(library), "-ldl"], check=True
        )
        # Global: a V2 library looks for getPluginRegistry, which the harness has.
        self.library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        for name, result in {
            "load": _TEXT, "create": _POINTER, "configure": _LONG, "attach": _POINTER,
            "enqueue": _INT, "store": _LONG, "restore": _POINTER, "destroy": None, "is_v2": _INT,
            "has_hwc": _INT,
        }.items():  # fmt: skip
            getattr(self.library, "harness_" + name).restype = result
        problem = self.library.harness_load(
            str(plugins).encode(), None if tensorrt is None else str(tensorrt).encode()
        )
        assert problem is None, problem.decode()
        self.is_v2 = bool(self.library.harness_is_v2())
        self.has_hwc = bool(self.library.harness_has_hwc())

    def create(
        self, name: str, space: str, attributes: "dict[str, int | float | str]"
    ) -> "Plugin | None":
        names = (_TEXT * len(attributes))(*[key.encode() for key in attributes])
        kinds, held = "", []
        for value in attributes.values():
            kind = {int: "i", float: "f", str: "s"}[type(value)]
            kinds += kind
            packed = value.encode() if kind == "s" else struct.pack(f"={kind}", value)
            held.append(ctypes.create_string_buffer(packed))
        values = (_POINTER * len(held))(*[ctypes.addressof(each) for each in held])
        made = self.library.harness_create(
            name.encode(), space.encode(), names, values, kinds.encode(), len(held)
        )
        return None if made is None else Plugin(self, name, space, made)

    def restore(self, name: str, space: str, missing: int = 0) -> "Plugin | None":
        """Make a plugin of the bytes that the last ``store`` kept, less the last ``missing``."""
        made = self.library.harness_restore(name.encode(), space.encode(), _LONG(missing))
        return None if made is None else Plugin(self, name, space, made)


class Plugin:
    """A plugin object of the library; whoever has one destroys it."""

    def __init__(self, harness: Harness, name: str, space: str, pointer: int) -> None:
        self.harness, self.name, self.space = harness, name, space
        self.library = harness.library
        self.pointer = _POINTER(pointer)

    def configure(self, inputs: "Sequence[Held]", outputs: "Sequence[Held]") -> int:
        """Ask what the builder asks; return the bytes of workspace, negative if it is refused."""
        described = _describe([*inputs, *outputs])
        return int(
            self.library.harness_configure(self.pointer, described, len(inputs), len(outputs))
        )

    def attach(self) -> "Plugin":
        made = self.library.harness_attach(self.pointer)
        assert made is not None
        return Plugin(self.harness, self.name, self.space, made)

    def enqueue(
        self, inputs: "Sequence[Held]", outputs: "Sequence[Held]", workspace: torch.Tensor,
    ) -> int:  # fmt: skip
        """Put the work into torch's current stream; return the plugin's status."""
        assert workspace.data_ptr() % ALIGNMENT == 0
        return int(
            self.library.harness_enqueue(
                self.pointer, _describe([*inputs, *outputs]), len(inputs), len(outputs),
                _pointers(inputs), _pointers(outputs), _POINTER(workspace.data_ptr()),
                _POINTER(torch.cuda.current_stream().cuda_stream),
            )
        )  # fmt: skip

    def store(self) -> int:
        return int(self.library.harness_store(self.pointer))

    def destroy(self) -> None:
        self.library.harness_destroy(self.pointer)
