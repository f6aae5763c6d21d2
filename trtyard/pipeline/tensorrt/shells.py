"""The shells of all ops in TensorRT's registry.

TensorRT keeps no reference to what its registry holds, so whoever registers must keep the creators
alive.
"""

from typing import Optional

from trtyard.pipeline.ops.kernels import KernelLibrary
from trtyard.pipeline.ops.registry import WITH_PLUGIN, part
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.shell import NAMESPACE, KernelPluginCreator


class RegisteredShells:
    """The shells in TensorRT's registry, for as long as the block lasts."""

    def __init__(self, kernels: Optional[KernelLibrary] = None) -> None:
        self._creators = [
            KernelPluginCreator(part(op, "shell").Plugin, kernels) for op in WITH_PLUGIN
        ]

    def __enter__(self) -> "RegisteredShells":
        registry = trt.get_plugin_registry()
        for creator in self._creators:
            if not registry.register_creator(creator, NAMESPACE):
                raise RuntimeError(f"TensorRT's registry refused the creator of {creator.name}")
        return self

    def __exit__(self, *_exception: object) -> None:
        registry = trt.get_plugin_registry()
        for creator in self._creators:
            registry.deregister_creator(creator)
