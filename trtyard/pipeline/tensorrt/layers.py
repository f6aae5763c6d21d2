"""An engine's layers, and the ONNX nodes that each of them computes."""

import re
from typing import Any, List, NamedTuple, Optional, Tuple

# How TensorRT's parser notes a node in the metadata of its layers.
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
# A plan of TensorRT for RTX lists its kernels and plugins in clear.
_IN_PLAN = re.compile(rb'\n  \w+=\{ name="?([^"\s]+)"?[^\n]*? layers="([^"]*)"')


class EngineLayer(NamedTuple):
    """One layer of an engine, which may compute several nodes."""

    name: str
    nodes: Tuple[str, ...]  # their names in the file


def inspected_layers(described: Optional[List[Any]]) -> Optional[List[EngineLayer]]:
    """Return the layers that the engine inspector describes; None without a description."""
    if described is None:
        return None
    facts = [one if isinstance(one, dict) else {"Name": one} for one in described]
    return [
        EngineLayer(str(one.get("Name", "")), _nodes(str(one.get("Metadata", "")))) for one in facts
    ]


def layers_in_plan(plan: bytes) -> List[EngineLayer]:
    """Return the layers in a plan of TensorRT for RTX that compute nodes."""
    return [
        EngineLayer(name.decode("utf-8", "replace"), _nodes(nodes.decode("utf-8", "replace")))
        for name, nodes in _IN_PLAN.findall(plan)
    ]


def _nodes(metadata: str) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(_NODE.findall(metadata)))
