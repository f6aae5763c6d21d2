"""Einsum's equations in small letters: ONNX takes both, TensorRT's parser takes no capitals."""

import re
import string

import onnx

from trtyard.pipeline.onnx_model.symptoms import inner_graphs

_CAPITAL = re.compile("[A-Z]")


def use_small_letters(graph: onnx.GraphProto) -> None:
    """Rename the letters of every Einsum that has capitals, in the order of their appearance.

    What an equation means does not depend on which letters stand for which dimension. One with
    more than 26 of them is left as it is.
    """
    for node in graph.node:
        for inner in inner_graphs(node):
            use_small_letters(inner)
        for attribute in node.attribute if node.op_type == "Einsum" and not node.domain else ():
            if attribute.name == "equation":
                attribute.s = in_small_letters(attribute.s.decode("ascii")).encode("ascii")


def in_small_letters(equation: str) -> str:
    """Return an equation of the same meaning, such as "abc,ad->bd" for "BGH,Bd->Gd"."""
    letters = list(dict.fromkeys(each for each in equation if each.isalpha()))
    if not _CAPITAL.search(equation) or len(letters) > len(string.ascii_lowercase):
        return equation
    return equation.translate(
        str.maketrans("".join(letters), string.ascii_lowercase[: len(letters)])
    )
