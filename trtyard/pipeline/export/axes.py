"""The dimensions of an export that vary: their names in the file."""

import re
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple, Union

import onnx

from trtyard.pipeline.dynamic.dimensions import Dynamic
from trtyard.pipeline.onnx_model.symptoms import inner_graphs

_WORD = re.compile(r"[A-Za-z_]\w*")


class Axes(NamedTuple):
    """Names of dimensions, by input or output and index."""

    inputs: Mapping[str, Mapping[int, str]]
    outputs: Mapping[str, Sequence[Union[int, str]]]  # sizes that do not vary as well
    limits: Mapping[str, Tuple[int, int]]  # the smallest and the largest size of each
    steps: Mapping[str, int]  # of which every size is a multiple
    traced: Mapping[str, int]  # the size of each in the trace

    def of_both(self) -> Dict[str, Dict[int, str]]:
        """Return the inputs and outputs that have such dimensions."""
        found = {name: dict(axes) for name, axes in self.inputs.items() if axes}
        for name, sizes in self.outputs.items():
            varying = {index: one for index, one in enumerate(sizes) if isinstance(one, str)}
            found.update({name: varying} if varying else {})
        return found


def axes_of(
    dynamic: Dynamic,
    input_names: Sequence[str],
    outputs: Mapping[str, Sequence[Union[int, str]]],
    traced: Mapping[str, int],
) -> Axes:
    """Return the dimensions of a model's inputs, and of its outputs as far as they are known."""
    return Axes(
        inputs=dict(zip(input_names, dynamic.axes)),
        outputs=outputs,
        limits={name: dynamic.limits(name) for name in dynamic.names},
        steps={name: dynamic.step(name) for name in dynamic.names},
        traced=traced,
    )


def name_dimensions(model: onnx.ModelProto, axes: Axes) -> None:
    """Give the file's symbols, such as ``s77``, the names that the user knows."""
    names: Dict[str, str] = {}
    for value in model.graph.input:
        for index, name in axes.inputs.get(value.name, {}).items():
            symbol = value.type.tensor_type.shape.dim[index].dim_param
            if symbol:
                names[symbol] = name
    for value in _values(model.graph):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = _renamed(dimension.dim_param, names)
    for value in model.graph.output:
        sizes = axes.outputs.get(value.name, ())
        dimensions = value.type.tensor_type.shape.dim
        for dimension, size in zip(dimensions, sizes if len(sizes) == len(dimensions) else ()):
            if isinstance(size, str):
                dimension.dim_param = size
            else:
                dimension.dim_value = size


def _renamed(symbol: str, names: Mapping[str, str]) -> str:
    if symbol in names:
        return names[symbol]
    return _WORD.sub(lambda found: names.get(found.group(0), found.group(0)), symbol)


def _values(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from [*graph.input, *graph.value_info, *graph.output]
    for node in graph.node:
        for inner in inner_graphs(node):
            yield from _values(inner)


def output_sizes(
    runs: Sequence[Tuple[Mapping[str, int], Mapping[str, Sequence[int]]]],
) -> Dict[str, Tuple[Union[int, str], ...]]:
    """Return the sizes of the outputs; one that varies is called as the input's that it equals.

    Args:
        runs: for each run the sizes of the dimensions, and the shapes of its outputs.
    """
    found: Dict[str, Tuple[Union[int, str], ...]] = {}
    for output, first in runs[0][1].items():
        shapes = [shapes[output] for _sizes, shapes in runs]
        if any(len(shape) != len(first) for shape in shapes):
            continue
        found[output] = tuple(
            first[index]
            if len({shape[index] for shape in shapes}) == 1
            else _named([sizes for sizes, _shapes in runs], [shape[index] for shape in shapes])
            or f"{output}_dim{index}"
            for index in range(len(first))
        )
    return found


def _named(points: List[Mapping[str, int]], sizes: List[int]) -> str:
    same = [name for name in points[0] if [each[name] for each in points] == sizes]
    return same[0] if same else ""
