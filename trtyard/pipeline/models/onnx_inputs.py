"""The inputs of an ONNX file: ``--input x=1..8x3x224x224``, values from a file, or a picture."""

import shlex
import zipfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
import torch
from onnx import TensorProto
from PIL import Image

from trtyard.core.errors import UsageError
from trtyard.pipeline.dynamic.dimensions import Dynamic, Profile, Sizes
from trtyard.pipeline.models.classifier import DEVIATIONS, MEANS
from trtyard.pipeline.models.own_inputs import OwnInput, OwnInputs, parse_inputs
from trtyard.pipeline.models.picture import Picture
from trtyard.pipeline.models.seeding import Seed
from trtyard.pipeline.onnx_model.given_file import dimensions_of, type_name

_TYPES = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.INT64: torch.int64,
    TensorProto.INT32: torch.int32,
    TensorProto.INT16: torch.int16,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.BOOL: torch.bool,
}
_FILES = (".npz", ".npy")
_RANK_OF_PICTURES, _CHANNELS = 4, 3
_SEED = 0
# Sizes that a hint proposes for open dimensions: the first, those of a picture, and others.
_BATCH, _SIDE, _LENGTH = "1", "224", "16"

# Sizes of an input: numbers, and the names of dimensions that vary.
_Shape = Tuple[Union[int, str], ...]


class Wanted(NamedTuple):
    """One input as the file declares it."""

    name: str
    dtype: torch.dtype
    shape: Optional[Tuple[str, ...]]  # "3", "batch", or "?"; None if not declared

    def __str__(self) -> str:
        """Return name, type and shape, as a message shows them."""
        shape = "of any shape" if self.shape is None else f"[{', '.join(self.shape)}]"
        return f"{self.name}: {_name(self.dtype)} {shape}"

    @property
    def is_open(self) -> bool:
        """Whether a size of it has to be given."""
        return self.shape is None or any(not one.isdigit() for one in self.shape)


def wanted_inputs(values: Sequence[onnx.ValueInfoProto], spec: str) -> List[Wanted]:
    """Return the inputs that the file declares.

    Raises:
        UsageError: one has a type that no input of a conversion can have.
    """
    found = []
    for value in values:
        dtype = _TYPES.get(value.type.tensor_type.elem_type)
        if dtype is None or value.type.WhichOneof("value") != "tensor_type":
            raise UsageError(
                f"{spec}: input {value.name} has type {type_name(value)}; inputs can be "
                f"{', '.join(map(_name, _TYPES.values()))}",
                "export the model with an input of one of these types",
            )
        shape = dimensions_of(value)
        found.append(Wanted(value.name, dtype, None if shape is None else tuple(shape)))
    return found


def is_values_file(text: Optional[str]) -> bool:
    """Tell whether the value of --input is a file with values."""
    return text is not None and text.lower().endswith(_FILES)


class Made(NamedTuple):
    """This run's inputs, and how they vary."""

    tensors: Tuple[torch.Tensor, ...]
    dynamic: Optional[Dynamic] = None


def make_inputs(
    wanted: Sequence[Wanted], text: Optional[str], spec: str, picture: Optional[Picture] = None
) -> Made:
    """Return a tensor for each input, and the dimensions that vary.

    Args:
        wanted: the inputs of the file.
        text: the value of --input: shapes, or a file with values.
        spec: the file as the user typed it.
        picture: for the one input that takes a picture; without it, values are random.

    Raises:
        UsageError: a size is missing, or what is given does not fit the file.
    """
    if text is not None and is_values_file(text):
        if picture is not None:
            raise UsageError(
                f"--image and --input {text} both give the values", "leave one of them out"
            )
        return Made(_from_file(wanted, text, spec))
    asked = _Asked({}, {}, ({},)) if text is None else _asked(wanted, text, spec)
    shapes = _shapes(wanted, asked, spec)

    def draw(sizes: Sizes, seed: int) -> Tuple[torch.Tensor, ...]:
        fixed = [_at(shape, sizes) for shape in shapes]
        if picture is not None:
            return (of_picture(picture.rgb, fixed[0]).to(wanted[0].dtype),)
        values = Seed(_SEED + seed)
        return tuple(
            _random(one, shape, asked.inputs.get(one.name), values)
            for one, shape in zip(wanted, fixed)
        )

    usual = {name: one.usual for name, one in asked.profiles[0].items()}
    axes = tuple(
        {index: size for index, size in enumerate(shape) if isinstance(size, str)}
        for shape in shapes
    )
    return Made(draw(usual, 0), Dynamic(axes, asked.profiles, draw) if any(axes) else None)


def _at(shape: _Shape, sizes: Sizes) -> Tuple[int, ...]:
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def _random(
    one: Wanted, shape: Sequence[int], given: Optional[OwnInput], values: Seed
) -> torch.Tensor:
    if one.dtype.is_floating_point:
        return values.uniform(shape, 1.0).to(one.dtype)
    return values.whole(shape, 2 if given is None else given.below).to(one.dtype)


def takes_picture(one: Wanted) -> bool:
    """Tell whether the input can be a picture: floating, [N, 3, height, width]."""
    return (
        one.dtype.is_floating_point
        and one.shape is not None
        and len(one.shape) == _RANK_OF_PICTURES
        and one.shape[1] in (str(_CHANNELS), "?")
    )


class _Asked(NamedTuple):
    """What --input asks for, by the input's name."""

    inputs: Dict[str, OwnInput]
    shapes: Dict[str, _Shape]
    profiles: Tuple[Profile, ...]


def _asked(wanted: Sequence[Wanted], text: str, spec: str) -> _Asked:
    profiles = [[_name_and_rest(part) for part in each.split(",")] for each in text.split(";")]
    first = profiles[0]
    names = [name for name, _rest in first]
    if any(names) and not all(names):
        raise UsageError(
            f"--input {text}: some inputs have names and some do not", _example(wanted)
        )
    if not any(names):
        if len(first) != len(wanted):
            raise UsageError(
                f"--input {text} has {_counted(first, 'shape')}; {spec} has "
                f"{_counted(wanted, 'input')}: {_names(wanted)}",
                _example(wanted),
            )
        names = [one.name for one in wanted]
    for other in profiles[1:]:
        if [name for name, _rest in other] not in (names, [""] * len(names)):
            raise UsageError(
                f"--input {text}: the profiles have different inputs",
                "give the same inputs in each profile, in the same order",
            )
    known = {one.name: one for one in wanted}
    for name in names:
        if name not in known:
            raise UsageError(
                f"--input {text}: {spec} has no input '{name}', but: {_names(wanted)}",
                _example(wanted),
            )
        if names.count(name) > 1:
            raise UsageError(f"--input {text}: input {name} is given twice", _example(wanted))
    # Names of inputs in files can have any characters, so the shapes are read without them.
    asked = parse_inputs(";".join(",".join(rest for _name, rest in each) for each in profiles))
    inputs = dict(zip(names, asked.inputs))
    for (_name, rest), name in zip(first, names):
        _check_type(known[name], inputs[name], rest, text)
    called = _dimension_names([known[name] for name in names], asked, text)
    shapes = {
        name: tuple(
            called[axes[index]] if index in axes else size
            for index, size in enumerate(inputs[name].shape)
        )
        for name, axes in zip(names, asked.axes)
    }
    ranges = tuple({called[axis]: one for axis, one in each.items()} for each in asked.profiles)
    return _Asked(inputs, shapes, ranges)


def _name_and_rest(part: str) -> Tuple[str, str]:
    """Split "x=[n=1..8]x3" into the input's name and its sizes."""
    head, bracket, tail = part.strip().partition("[")
    name, _equals, sizes = head.rpartition("=")
    return name, sizes + bracket + tail


def _dimension_names(wanted: Sequence[Wanted], asked: OwnInputs, text: str) -> Dict[str, str]:
    """Return the name of each dimension that varies: the file's own if it has one.

    Raises:
        UsageError: one dimension of the file has two ranges.
    """
    symbols: Dict[str, List[str]] = {}  # of the file, by the name that --input gives
    for one, axes in zip(wanted, asked.axes):
        for index, axis in axes.items():
            declared = "?" if one.shape is None or index >= len(one.shape) else one.shape[index]
            own = symbols.setdefault(axis, [])
            if declared != "?" and not declared.isdigit() and declared not in own:
                own.append(declared)
    found: Dict[str, str] = {}
    for axis, own in symbols.items():
        found[axis] = own[0] if len(own) == 1 else axis
    for axis, name in found.items():
        for other, same in found.items():
            if same == name and any(each[axis] != each[other] for each in asked.profiles):
                raise UsageError(
                    f"--input {text}: dimension {name} of the file has two ranges",
                    "give the same range wherever the file has this dimension",
                )
    return found


def _check_type(one: Wanted, given: OwnInput, shape: str, text: str) -> None:
    if ":" in shape and given.dtype != one.dtype:
        raise UsageError(
            f"--input {text}: input {one.name} is {_name(one.dtype)} in the file, not "
            f"{_name(given.dtype)}",
            "leave the type out: it is in the file",
        )


def _shapes(wanted: Sequence[Wanted], asked: _Asked, spec: str) -> List[_Shape]:
    """Return the shape of each input; a size that has a name is the same wherever it occurs."""
    sizes: Dict[str, Union[int, str]] = {}
    for one in wanted:
        if one.name in asked.shapes:
            shape = asked.shapes[one.name]
            given = f"--input {one.name}={'x'.join(map(str, shape))}"
            _fit(one, shape, sizes, given, _example(wanted))
    return [
        asked.shapes[one.name] if one.name in asked.shapes else _closed(one, sizes, wanted, spec)
        for one in wanted
    ]


def _fit(
    one: Wanted,
    shape: Sequence[Union[int, str]],
    sizes: Dict[str, Union[int, str]],
    given: str,
    hint: str,
) -> None:
    """Check a shape against what the file declares, and note the sizes that have names."""
    if one.shape is None:
        return
    if len(shape) != len(one.shape):
        raise UsageError(
            f"{given} has {_counted(shape, 'dimension')}; the model has {one}",
            hint,
        )
    for number, (size, declared) in enumerate(zip(shape, one.shape)):
        expected = int(declared) if declared.isdigit() else sizes.get(declared, size)
        if size != expected:
            what = "" if declared.isdigit() else f" (dimension {declared})"
            raise UsageError(
                f"{given}: size {number + 1} must be {expected}{what}; the model has {one}",
                hint,
            )
        if not declared.isdigit() and declared != "?":
            sizes[declared] = size


def _closed(
    one: Wanted, sizes: Dict[str, Union[int, str]], wanted: Sequence[Wanted], spec: str
) -> _Shape:
    if one.shape is None:
        raise UsageError(
            f"{spec}: the file does not declare the shape of input {one.name}", _example(wanted)
        )
    missing = [
        f"dimension {number + 1}" if size == "?" else f"dimension {size}"
        for number, size in enumerate(one.shape)
        if not size.isdigit() and size not in sizes
    ]
    if missing:
        raise UsageError(
            f"{spec}: {', '.join(missing)} of input {one.name} has no size in the file; an engine "
            f"needs one: {one}",
            _example(wanted),
        )
    return tuple(int(size) if size.isdigit() else sizes[size] for size in one.shape)


def _example(wanted: Sequence[Wanted]) -> str:
    """Return the option to type, for every input whose size is open, or else for all."""
    shown = [one for one in wanted if one.is_open] or list(wanted)
    return f"--input {shlex.quote(','.join(f'{one.name}={_proposed(one)}' for one in shown))}"


def _proposed(one: Wanted) -> str:
    is_picture = takes_picture(one)
    sizes = []
    for number, size in enumerate(one.shape or ("?", "3", "?", "?")):
        usual = _BATCH if not number else (_SIDE if is_picture or one.shape is None else _LENGTH)
        sizes.append(size if size.isdigit() else ("3" if is_picture and number == 1 else usual))
    return "x".join(sizes) or "1"


def _counted(things: Sequence[Any], what: str) -> str:
    return f"{len(things)} {what}" + ("" if len(things) == 1 else "s")


def _names(wanted: Sequence[Wanted]) -> str:
    return "; ".join(map(str, wanted))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).replace("torch.", "")


def _from_file(wanted: Sequence[Wanted], text: str, spec: str) -> Tuple[torch.Tensor, ...]:
    """Return the values in a .npz or .npy file."""
    arrays = _read(wanted, text, spec)
    unknown = [name for name in arrays if name not in [one.name for one in wanted]]
    missing = [one.name for one in wanted if one.name not in arrays]
    if unknown or missing:
        what = f"no values for input {missing[0]}" if missing else f"values for '{unknown[0]}'"
        raise UsageError(
            f"--input {text}: the file holds {what}; it has {', '.join(arrays) or 'no arrays'}. "
            f"{spec} has the inputs {_names(wanted)}",
            _savez(wanted),
        )
    sizes: Dict[str, Union[int, str]] = {}
    for one in wanted:
        _check_array(one, arrays[one.name], text)
        shape = arrays[one.name].shape
        given = f"--input {text}: {one.name}, of shape {list(shape)},"
        _fit(one, shape, sizes, given, "save it with the model's shape: array.reshape(...)")
    return tuple(torch.from_numpy(np.ascontiguousarray(arrays[one.name])) for one in wanted)


def _read(wanted: Sequence[Wanted], text: str, spec: str) -> Dict[str, np.ndarray]:
    path = Path(text).expanduser()
    if not path.is_file():
        raise UsageError(f"--input {text}: file not found")
    try:
        content: Any = np.load(str(path), allow_pickle=False)
        if isinstance(content, np.ndarray):
            if len(wanted) != 1:
                raise UsageError(
                    f"--input {text} holds one array; {spec} has {len(wanted)} inputs: "
                    f"{_names(wanted)}",
                    f"give a .npz file: {_savez(wanted)}",
                )
            return {wanted[0].name: content}
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(
            f"--input {text}: not a .npz or .npy file, or it is damaged or holds Python objects",
            "write it with numpy.savez or numpy.save, from arrays of numbers",
        ) from error


def _savez(wanted: Sequence[Wanted]) -> str:
    """Return the Python call that writes values for every input."""
    names = [one.name for one in wanted]
    if all(name.isidentifier() for name in names):
        words = ", ".join(f"{name}=..." for name in names)
    else:
        words = "**{" + ", ".join(f"{name!r}: ..." for name in names) + "}"
    return f"numpy.savez('inputs.npz', {words})"


def _check_array(one: Wanted, array: np.ndarray, text: str) -> None:
    expected = np.dtype(_name(one.dtype))
    if array.dtype != expected:
        raise UsageError(
            f"--input {text}: {one.name} is {array.dtype} there; the model has {one}",
            f"save it as {expected}: array.astype('{expected}')",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(
            f"--input {text}: {one.name} holds NaN or infinity", "give values that are finite"
        )


def of_picture(rgb: np.ndarray, shape: Sequence[int]) -> torch.Tensor:
    """Return a picture as [N, 3, height, width]: the largest part from the middle, resized.

    Args:
        rgb: uint8 [H, W, 3].
        shape: of the result. Values are normalized as for ImageNet.
    """
    batch, _, height, width = shape
    rows, columns = rgb.shape[:2]
    factor = max(height / rows, width / columns)
    left, top = (columns - width / factor) / 2, (rows - height / factor) / 2
    box = (
        max(left, 0.0),
        max(top, 0.0),
        min(left + width / factor, columns),
        min(top + height / factor, rows),
    )
    resized = Image.fromarray(rgb).resize((width, height), Image.BILINEAR, box=box)
    unit = torch.from_numpy(np.array(resized)).float() / 255
    normal = (unit - torch.tensor(MEANS)) / torch.tensor(DEVIATIONS)
    return normal.permute(2, 0, 1)[None].repeat(batch, 1, 1, 1).contiguous()
