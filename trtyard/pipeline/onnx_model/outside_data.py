"""The weights that an ONNX file keeps in other files: where they are, and copies of them."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import onnx

from trtyard.core.errors import UsageError
from trtyard.core.files import write_bytes, written_whole

_PIECE = 1 << 20  # bytes copied at a time
# Where a tensor starts in the copy: runtimes map large ones into memory by pages.
_PAGE, _LARGE, _SMALL = 4096, 1 << 16, 64


class Place(NamedTuple):
    """The bytes of one tensor."""

    location: str  # as the model has it
    offset: int
    length: int  # -1: to the end of the file


def tensors_in(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of the model, those in attributes, inner graphs and functions too."""
    yield from _in_graph(model.graph)
    for function in getattr(model, "functions", ()):  # from onnx 1.10 on
        yield from _in_nodes(function.node)


def _in_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _in_nodes(graph.node)


def _in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from _in_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _in_graph(graph)


def outside_tensors(model: onnx.ModelProto) -> List[onnx.TensorProto]:
    """Return the tensors whose values are in other files."""
    external = onnx.TensorProto.EXTERNAL
    return [tensor for tensor in tensors_in(model) if tensor.data_location == external]


def check_outside(model: onnx.ModelProto, file: Path, given: str) -> None:
    """See that every file with weights of ``file`` is there, whole, and in the model's folder.

    Args:
        model: the content of ``file``.
        file: the ONNX file.
        given: how the user gave it, for messages: --model FILE.

    Raises:
        UsageError: one is missing or too short, or its path leaves the folder.
    """
    # The model may be a link into a cache, and its data a link into the same folder of the cache.
    folders = {os.path.realpath(str(file.parent)), os.path.dirname(os.path.realpath(str(file)))}  # noqa: PTH120
    sizes: Dict[str, int] = {}
    for tensor in outside_tensors(model):
        place = place_of(tensor, given)
        if place.location not in sizes:
            sizes[place.location] = _size_of(place.location, file.parent, folders, given)
        end = place.offset + max(place.length, 0)
        if end > sizes[place.location]:
            raise UsageError(
                f"{given}: its data file {place.location} is too short: "
                f"{sizes[place.location]:,} bytes, but tensor {tensor.name} ends at {end:,}",
                "copy both files again, from the same export",
            )


def _size_of(location: str, folder: Path, folders: Iterable[str], given: str) -> int:
    steps = Path(os.path.normpath(location)).parts
    real = os.path.realpath(str(folder / location))
    inside = any(os.path.commonpath([one, real]) == one for one in folders)
    if not location or os.path.isabs(location) or ".." in steps or not inside:  # noqa: PTH117
        raise UsageError(
            f"{given}: the path of its data file, {location!r}, leaves the model's folder",
            "put the data file into the model's folder, and set that path in the model: "
            "onnx.save_model(..., save_as_external_data=True, location='FILE')",
        )
    if not Path(real).is_file():
        raise UsageError(
            f"{given}: its data file {location} is missing",
            f"copy it to {folder / location}",
        )
    return Path(real).stat().st_size


def place_of(tensor: onnx.TensorProto, given: str) -> Place:
    """Return where the values of a tensor are.

    Raises:
        UsageError: the model does not say it in numbers.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or -1)
    except ValueError:
        offset = -1
    if offset < 0 or length < -1:
        raise UsageError(
            f"{given}: tensor {tensor.name} has no valid place in its data file",
            "export the model again",
        )
    return Place(entries.get("location", ""), offset, length)


def write_model(model: onnx.ModelProto, folder: Path, file: Path, data: Path) -> None:
    """Write the model to ``file``, and its weights that are in other files to the one ``data``.

    ``model`` then names ``data``. The weights are never all in memory.

    Args:
        model: without those weights.
        folder: where the model's data files are.
        file: written whole or not at all.
        data: beside ``file``.
    """
    outside = outside_tensors(model)
    if outside:
        with written_whole(data) as partial, partial.open("wb") as target, ExitStack() as stack:
            sources: Dict[str, BinaryIO] = {}
            copied: Dict[Place, Tuple[int, int]] = {}
            for tensor in outside:
                place = place_of(tensor, file.name)
                if place.location not in sources:
                    source = (folder / place.location).open("rb")
                    sources[place.location] = stack.enter_context(source)
                if place not in copied:
                    copied[place] = _copy(sources[place.location], place, target)
                _set_place(tensor, data.name, *copied[place])
    write_bytes(file, model.SerializeToString())


def _copy(source: BinaryIO, place: Place, target: BinaryIO) -> Tuple[int, int]:
    """Copy one tensor's bytes; return their offset and length in ``target``."""
    step = _PAGE if place.length < 0 or place.length >= _LARGE else _SMALL
    target.write(b"\0" * (-target.tell() % step))
    start = target.tell()
    source.seek(place.offset)
    while place.length < 0 or target.tell() - start < place.length:
        rest = _PIECE if place.length < 0 else place.length - (target.tell() - start)
        piece = source.read(min(_PIECE, rest))
        if not piece:
            break
        target.write(piece)
    return start, target.tell() - start


def _set_place(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
