"""The conversion request: each field defines an option, its help and its JSON entry.

The host reads the command line into a ``ConversionRequest`` and writes it as request.json; the
pipeline reads that file. To add an option, add a field here and use it. Standard library only,
Python 3.6, which has no dataclasses.
"""

import json
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from trtyard.core.errors import UsageError
from trtyard.core.precisions import FP32, METHODS, read_precisions
from trtyard.core.report import ONNXRUNTIME_CUDA

REQUEST_FILE = "request.json"
SCHEMA = 1

ONNX, ENGINE = "onnx", "engine"
PADDED, DYNAMIC = "padded", "dynamic"  # detections
# Runtimes between which bisect searches.
TORCH_ONNXRUNTIME = "torch,onnxruntime"
ONNXRUNTIME_TENSORRT = "onnxruntime,tensorrt"
TORCH_TENSORRT = "torch,tensorrt"  # both of the others


class Option(NamedTuple):
    """One field: its option on the command line, and how its value is read."""

    name: str  # without the dashes
    help: str
    default: Any
    read: Callable[[str, str], Any]  # from the option's name and its text
    kinds: Tuple[type, ...]  # its types in JSON
    host_only: bool  # only the host needs it; it is not in request.json

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value on the command line."""
        return self.kinds == (bool,)

    @property
    def is_repeated(self) -> bool:
        """Whether it may be given more than once; its value is then a list of texts."""
        return self.kinds == (list,)


def _text(_name: str, words: str) -> str:
    return words


def _number(name: str, words: str) -> int:
    if not (words.isdecimal() and words.encode("ascii", "replace").isdigit()) or int(words) == 0:
        raise UsageError(f"--{name} must be a whole number above 0, not {words!r}")
    return int(words)


def _batches(name: str, words: str) -> str:
    sizes = [str(_number(name, each.strip())) for each in words.split(",")]
    repeated = sorted({each for each in sizes if sizes.count(each) > 1}, key=int)
    if repeated:
        raise UsageError(
            "--{} {}: {} is given more than once".format(name, words, ", ".join(repeated)),
            "--{} {}".format(name, ",".join(dict.fromkeys(sizes))),
        )
    return ",".join(sizes)


def _share(name: str, words: str) -> float:
    try:
        value = float(words)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise UsageError(
            f"--{name} must be a number from 0 up to 1, not {words!r}",
            f"--{name} 1e-5, or --{name} 0",
        )
    return value


def _flag(_name: str, given: Any) -> bool:
    return bool(given)


def _texts(_name: str, given: Any) -> List[str]:
    return [str(one) for one in given]


def _one_of(*choices: str) -> Callable[[str, str], str]:
    def read(name: str, words: str) -> str:
        if words not in choices:
            mark = "; " if any("," in one for one in choices) else ", "
            raise UsageError(f"--{name} must be one of {mark.join(choices)}, not {words!r}")
        return words

    return read


def option(
    help: str,  # noqa: A002 - as in argparse
    read: Callable[[str, str], Any] = _text,
    default: Any = None,
    name: str = "",
    host_only: bool = False,
) -> Any:
    """Return the ``Option`` for a field of a request; ``name`` defaults to the field's name."""
    kinds = (str,)  # type: Tuple[type, ...]
    if read is _number:
        kinds = (int,)
    elif read is _share:
        kinds = (float, int)
    elif read is _flag:
        kinds = (bool,)
    elif read is _texts:
        kinds = (list,)
    return Option(name, help, default, read, kinds, host_only)


class ConversionRequest:
    """The options of one conversion; None means that an option was not given. Frozen."""

    task = "convert"  # of ./run, and the pipeline's command

    model: str = option(
        "Model to convert: faster_rcnn; a classifier, segmenter or detector of torchvision, such "
        "as alexnet; module:callable, file.py:callable or 'file.py:callable(depth=18)' (arguments "
        "are literals); timm:NAME; hf:FOLDER; an ONNX file, or a folder with one.",
        default="",
    )
    packages: Optional[List[str]] = option(
        "Package that the model needs, such as timm or timm==1.0.31, or a requirements.txt. May be "
        "repeated.",
        _texts,
        name="with",
    )
    row: str = option(
        "Row or alias of the matrix (default: the default row); list them with ./run matrix.",
        default="default",
        name="trt",
        host_only=True,
    )
    where: str = option(
        "Where to run: docker, host, or auto (default): in Docker if the row's image is present.",
        _one_of("auto", "docker", "host"),
        default="auto",
        name="in",
        host_only=True,
    )
    out: Optional[str] = option(
        "Folder for the results (default: out/ROW/MODEL in the trtyard folder).", host_only=True
    )
    weights: str = option(
        "seeded (default: random, the same on every machine), seeded:N, pretrained (published by "
        "torchvision), a file with a state dict, or URL#sha256=HEX. FILE#KEY and "
        "URL#sha256=HEX#KEY select one of several state dicts.",
        default="seeded",
    )
    image: Optional[str] = option("Picture to run on (default: the astronaut of scikit-image).")
    size: Optional[int] = option(
        "Side of the network's input in pixels (default: the model's, see docs/models.md).", _number
    )
    input: Optional[str] = option(
        "Shapes of the inputs, such as 1x3x224x224 or 1x16:int64:30522,1x16:bool, also with names "
        "(x=1x3x224x224). A size may be a range, min..max or min:opt:max, such as 1..16x3x224x224 "
        "(quote [ ] and ;). For an ONNX file also FILE.npz or FILE.npy with the values."
    )
    top_n: Optional[int] = option(
        "Number of proposals that faster_rcnn keeps (default: 1000, or 300 with seeded weights).",
        _number,
    )
    norm_eps: Optional[float] = option(
        "Epsilon of a torchvision detector's norm layers, which a checkpoint does not contain "
        "(default: see docs/models.md).",
        _share,
    )
    detections: Optional[str] = option(
        "Outputs of a torchvision detector: padded (default), to a fixed length; or dynamic, as "
        "torchvision returns them.",
        _one_of(PADDED, DYNAMIC),
    )
    opset: Optional[int] = option("ONNX opset (default: the row's).", _number)
    simplify: bool = option(
        "Fold constants and remove redundant nodes of the ONNX file, and compare both files.",
        _flag,
        default=False,
    )
    precision: str = option(
        "fp32 (default), fp16, bf16, int8, fp8, or several of them, separated by commas.",
        read_precisions,
        default=FP32,
    )
    calibrate: Optional[str] = option(
        "Calibration data for int8 and fp8: a folder of pictures, or an .npz or .npy file with at "
        "least 8 samples."
    )
    calibration: Optional[str] = option(
        "How int8 and fp8 ranges are chosen: percentile (default), entropy or max.",
        _one_of(*METHODS),
    )
    keep_fp32: Optional[str] = option(
        "Nodes that stay in fp32: patterns of node names or op types, separated by commas."
    )
    bisect: bool = option(
        "Compare intermediate values too, and find the first wrong node if ONNX Runtime disagrees.",
        _flag,
        default=False,
    )
    between: Optional[str] = option(
        "With --bisect: the runtimes to compare, torch,onnxruntime (default), onnxruntime,tensorrt "
        "or torch,tensorrt. TensorRT needs a GPU.",
        _one_of(TORCH_ONNXRUNTIME, ONNXRUNTIME_TENSORRT, TORCH_TENSORRT),
    )
    onnx: Optional[str] = option(
        "With --bisect: an ONNX file of the model to compare with, instead of exporting it."
    )
    until: str = option(
        "onnx: stop after the ONNX file was compared with PyTorch. engine (default): run all "
        "stages.",
        _one_of(ONNX, ENGINE),
        default=ENGINE,
    )
    plugins: Optional[str] = option(
        "Plugin library to use, written by ./run plugins (default: compiled for the row)."
    )
    runtime: Optional[str] = option(
        "onnxruntime-cuda: also run model.onnx in ONNX Runtime on the GPU, with trtyard's kernels.",
        _one_of(ONNXRUNTIME_CUDA),
    )
    ops: Optional[str] = option(
        "With --runtime: library with the kernels, written by ./run plugins --for onnxruntime "
        "(default: compiled for this GPU)."
    )
    export: Optional[str] = option(
        "triton: also write a model repository for NVIDIA's Triton Inference Server.",
        _one_of("triton"),
        host_only=True,
    )
    memory: Optional[str] = option(
        "Memory limit of the container, such as 12g (default: 80% of Docker's memory).",
        host_only=True,
    )
    processes: Optional[int] = option(
        "Limit of the container's processes and threads (default: 4096).", _number, host_only=True
    )

    def __init__(self, **values: Any) -> None:
        known = self.options()
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise TypeError("a request has no {}".format(", ".join(unknown)))
        for name, one in known.items():
            self.__dict__[name] = values.get(name, one.default)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a request is frozen; make another with replaced()")

    def __eq__(self, other: Any) -> bool:
        return type(other) is type(self) and bool(other.__dict__ == self.__dict__)

    def __hash__(self) -> int:
        return hash(repr(sorted(self.__dict__.items())))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.given()})"

    @classmethod
    def options(cls) -> Dict[str, Option]:
        """Return the options by field name, in order of declaration."""
        return {
            name: one._replace(name=one.name or name.replace("_", "-"))
            for kind in reversed(cls.__mro__)
            for name, one in vars(kind).items()
            if isinstance(one, Option)
        }

    @classmethod
    def from_words(cls, words: Mapping[str, Any]) -> "ConversionRequest":
        """Return the request for command-line values; an empty value means not given.

        Raises:
            UsageError: a value is not valid for its option.
        """
        known = cls.options()
        return cls(
            **{
                name: known[name].read(known[name].name, word)
                for name, word in words.items()
                if word not in ("", None, False, [])
            }
        )

    def replaced(self, **changes: Any) -> "ConversionRequest":
        """Return a copy of the request with these fields changed."""
        return type(self)(**dict(self.__dict__, **changes))

    def searches(self, between: str) -> bool:
        """Return whether --bisect compares these two runtimes."""
        asked = self.between or TORCH_ONNXRUNTIME
        return self.bisect and asked in (between, TORCH_TENSORRT)

    def given(self) -> Dict[str, Any]:
        """Return the fields that differ from their defaults, by name."""
        known = self.options()
        return {name: one for name, one in self.__dict__.items() if one != known[name].default}

    def to_json(self) -> Dict[str, Any]:
        """Return the content of request.json."""
        known = self.options()
        fields = {name: one for name, one in self.__dict__.items() if not known[name].host_only}
        return dict(schema=SCHEMA, **fields)

    @classmethod
    def read(cls, file: Path) -> "ConversionRequest":
        """Return the request in a request.json.

        Raises:
            UsageError: the file is not a request, or an entry is unknown or has the wrong type.
        """
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} is not a request: {error}") from None
        if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
            raise UsageError(f"{file} is not a request of schema {SCHEMA}")
        known = {name: one for name, one in cls.options().items() if not one.host_only}
        for name, one in value.items():
            if name not in known:
                raise UsageError(f"{file} has an unknown entry {name!r}")
            kinds = known[name].kinds
            is_bool = isinstance(one, bool) and bool not in kinds
            if one is not None and (is_bool or not isinstance(one, kinds)):
                raise UsageError(f"{file}: {name} is {one!r}, expected {kinds[0].__name__}")
            if isinstance(one, list) and not all(isinstance(each, str) for each in one):
                raise UsageError(f"{file}: {name} is {one!r}, expected a list of texts")
        return cls(**value)


class BenchRequest(ConversionRequest):
    """The options of one conversion whose runtimes are timed afterwards."""

    task = "bench"

    batch: Optional[str] = option(
        "Batch sizes to time, separated by commas, such as 1,8 (default: the batch of --input).",
        _batches,
    )
    runs: Optional[int] = option(
        "Number of timed runs of each runtime at each batch size (default: 200).", _number
    )
    seconds: Optional[int] = option(
        "Stop timing a runtime at a batch size after this many seconds (default: 20).", _number
    )
