"""The records of a report: the facts of one conversion.

The pipeline fills these records and writes them as report.json. The host reads that file and makes
the pages. Standard library only, Python 3.6.
"""

from typing import Any, List, Mapping, NamedTuple, Optional, Tuple, Union

from trtyard.core.coco import COCO_80
from trtyard.core.errors import ConversionError, EnvironmentLacksError, ParityError

SCHEMA = 2

PASSED = "passed"
FAILED = "failed"
NOT_RUN = "not-run"

STAGES = ("torch", "export", "onnxruntime", "plugins", "engine", "tensorrt")
PRECISION_STAGES = ("rewrite", "onnxruntime", "engine", "tensorrt")  # of each reduced precision
SIMPLIFY = "simplify"
ONNXRUNTIME_CUDA = "onnxruntime-cuda"  # model.onnx in ONNX Runtime on the GPU
# Stages that a report has only if they were asked for, and the stage that each one follows.
OPTIONAL_STAGES = {SIMPLIFY: "export", ONNXRUNTIME_CUDA: "onnxruntime"}
# The stages whose outputs are compared; the first one that ran is the reference.
RUNTIMES = ("torch", "onnxruntime", "tensorrt", ONNXRUNTIME_CUDA)
TORCH_CUDA = "torch-cuda"  # PyTorch on the GPU: the reference of ONNXRUNTIME_CUDA, no stage
UNSIMPLIFIED = "unsimplified"  # ONNX Runtime on the file before the stage simplify
COMPILED = "torch-compiled"  # PyTorch with torch.compile
TIMED = ("torch", COMPILED, "onnxruntime", "tensorrt")  # by ./run bench
FUNCTION_BODIES = "onnxruntime-cuda-bodies"  # ONNXRUNTIME_CUDA without the kernels, by ./run bench
RUNTIME_NAMES = {
    "torch": "PyTorch",
    COMPILED: "PyTorch compiled",
    "onnxruntime": "ONNX Runtime",
    "tensorrt": "TensorRT",
    ONNXRUNTIME_CUDA: "ONNX Runtime CUDA",
    FUNCTION_BODIES: "ONNX Runtime CUDA, function bodies",
    TORCH_CUDA: "PyTorch CUDA",
    UNSIMPLIFIED: "ONNX Runtime before --simplify",
}

# What a size of a dynamic model is in its range; TensorRT's names, and sizes in between.
MIN, OPT, MAX, BETWEEN = "min", "opt", "max", "between"

# Prefix of the source of untrained weights; the seed follows.
SEEDED = "seeded"

JSON_FILE, HTML_FILE, JUNIT_FILE = "report.json", "report.html", "junit.xml"
RUN_FILE = "run.py"  # a script that runs the model alone

# The range of a histogram's decades; smaller and larger errors count in the first and last one.
LOWEST_DECADE = -12
HIGHEST_DECADE = 6


class Stage(NamedTuple):
    """The result of one stage."""

    name: str
    status: str  # PASSED, FAILED or NOT_RUN
    seconds: Optional[float] = None  # None when it was not run
    reason: Optional[str] = None  # why it failed or was not run
    hint: Optional[str] = None  # the fix, or the next command
    note: Optional[str] = None  # a remark on its result
    log: Optional[str] = None  # the end of the failing library's or compiler's output


class ErrorHistogram(NamedTuple):
    """Numbers of elements by the size of their difference, one bin per power of ten."""

    exact: int  # elements that do not differ at all
    lowest: int  # decades[i] counts 10**(lowest + i) <= error < 10**(lowest + i + 1)
    decades: Tuple[int, ...]  # empty when nothing differs by a finite amount
    non_finite: int  # NaN or infinity in one runtime only


class WorstElement(NamedTuple):
    """The element with the largest difference relative to its tolerance."""

    position: Tuple[int, ...]
    reference: float
    candidate: float


class OutputParity(NamedTuple):
    """The comparison of one output between two runtimes."""

    pair: Tuple[str, str]  # reference, candidate
    output: str
    elements: int
    max_abs: Optional[float]  # infinity when one side alone is not finite; None: not comparable
    max_rel: Optional[float]  # over the elements whose reference exceeds atol
    cosine: Optional[float]  # over the elements that are finite in both; 1 when both are all zeros
    atol: float
    rtol: float
    mismatches: int
    passed: bool
    worst: Optional[WorstElement] = None
    non_finite_alike: int = 0  # the same NaN or infinity in both
    histogram: Optional[ErrorHistogram] = None
    problem: Optional[str] = None  # why it failed, if the numbers do not show it
    caution: Optional[str] = None  # why passing proves little
    tolerance_source: str = ""


class DetectionTolerance(NamedTuple):
    """The tolerance for one matched pair of detections."""

    box: float  # network-input pixels, each corner coordinate
    score: float


class Match(NamedTuple):
    """A detection of the reference and its counterpart."""

    reference: int  # row among the reference's detections
    candidate: int
    labels: Tuple[int, int]
    scores: Tuple[float, float]
    iou: float
    box_diff: float  # largest difference of a coordinate, network-input pixels
    score_diff: float
    within: bool  # labels equal, box and score within tolerance


class Unmatched(NamedTuple):
    """A detection that only one runtime has."""

    runtime: str
    row: int
    label: int
    score: float
    box: Tuple[float, float, float, float]
    explanation: str


class DetectionParity(NamedTuple):
    """The comparison of two runtimes' detections in one image."""

    pair: Tuple[str, str]
    reference: int  # detections of the reference
    candidate: int
    matched: int
    labels_equal: int
    worst_iou: Optional[float]  # None when nothing was matched
    worst_score_diff: Optional[float]
    worst_box_diff: Optional[float]  # network-input pixels
    tolerance: DetectionTolerance
    passed: bool
    matches: Tuple[Match, ...] = ()  # in the reference's order
    unmatched: Tuple[Unmatched, ...] = ()
    image: int = 0
    problem: Optional[str] = None
    numbering: str = COCO_80  # of the labels


Compared = Union[OutputParity, DetectionParity]


class DynamicDimension(NamedTuple):
    """A dimension whose size varies."""

    name: str  # in the ONNX file
    places: Tuple[str, ...]  # such as "images[0]"
    profiles: Tuple[Tuple[int, int, int], ...]  # min, opt and max in each optimization profile


class SizeParity(NamedTuple):
    """The comparison of two runtimes at one size of the dynamic dimensions."""

    pair: Tuple[str, str]
    role: str  # MIN, OPT, MAX or BETWEEN
    sizes: Mapping[str, int]  # by dimension
    passed: bool
    parity: Tuple[OutputParity, ...] = ()
    detections: Tuple[DetectionParity, ...] = ()
    problem: Optional[str] = None  # why the candidate gave nothing to compare


class EngineFacts(NamedTuple):
    """The engine that was built."""

    bytes: int
    layers: int  # of the network, before the builder fuses them
    plugin_layers: Tuple[str, ...]  # op types, one for each layer
    warnings: Tuple[str, ...] = ()  # of the builder
    profiles: int = 0  # optimization profiles; 0 if every shape is fixed


class TensorInput(NamedTuple):
    """One input of the network."""

    name: str
    shape: Tuple[int, ...]
    dtype: str


class Picture(NamedTuple):
    """The input picture."""

    name: str
    sha256: str
    width: int  # pixels of the file, before it is resized for the network
    height: int


# How a picture is brought to the size of the input.
CROP = "crop"  # resized by its shorter side, then a square from the middle
FILL = "fill"  # the largest part of that shape from the middle, resized
STRETCH = "stretch"  # the whole picture, resized


BILINEAR, BICUBIC = "bilinear", "bicubic"


class Preprocess(NamedTuple):
    """How a picture becomes the network's input: (pixel / divisor - mean) / deviation."""

    fit: str  # CROP, FILL or STRETCH
    channels: str  # "RGB" or "BGR"
    divisor: float
    mean: Tuple[float, ...]  # of each channel, in that order
    deviation: Tuple[float, ...]
    shorter_side: Optional[int] = None  # with CROP: pixels, before the square is cut
    layout: str = "NCHW"
    resample: str = BILINEAR  # or BICUBIC: the filter that resizes
    as_torchvision: bool = False  # size and place of the square are rounded as in torchvision


class Weights(NamedTuple):
    """The weights of the model."""

    source: str  # "seeded:0", the file's name, "pretrained", or URL#sha256=HEX
    sha256: str
    address: Optional[str] = None  # where the file was downloaded


class Inputs(NamedTuple):
    """The inputs of the conversion."""

    tensors: Tuple[TensorInput, ...] = ()
    image: Optional[Picture] = None
    weights: Optional[Weights] = None


class OnnxTensor(NamedTuple):
    """One input or output as an ONNX file declares it."""

    name: str
    dtype: str
    shape: Optional[Tuple[str, ...]]  # "3", "batch", or "?" without a name; None: not declared


class OnnxFile(NamedTuple):
    """The ONNX file that was given as the model."""

    nodes: int
    opset: int
    ir_version: int
    inputs: Tuple[OnnxTensor, ...]
    outputs: Tuple[OnnxTensor, ...]
    producer: str = ""


class Signature(NamedTuple):
    """The inputs and outputs that model.onnx declares."""

    inputs: Tuple[OnnxTensor, ...]
    outputs: Tuple[OnnxTensor, ...]


class Simplified(NamedTuple):
    """Numbers of nodes before and after the stage simplify."""

    before: int
    after: int


class Proposals(NamedTuple):
    """Numbers of a detector's real and padded proposals in one runtime."""

    runtime: str
    alive: int
    padded: Optional[int]  # rows that went through the box head; None if not known


class ExporterWarning(NamedTuple):
    """One warning of the exporter."""

    text: str
    of_tracer: bool  # the tracer's own: a value of the traced run became a constant


class Symptom(NamedTuple):
    """Something wrong that raised no error."""

    name: str  # of the known failure
    detail: str  # what was found in this conversion
    output: str = ""  # of the model, where it is about one


class Growth(NamedTuple):
    """The error of one value between a wrong node and the outputs."""

    value: str  # its name in the file
    op: str  # of the node that makes it
    error: Optional[float]  # the largest difference as a share of the largest right value


class Divergence(NamedTuple):
    """A node whose output is wrong though its inputs are right."""

    node: str
    op: str
    value: str  # the wrong output
    shape: Tuple[int, ...]
    dtype: str
    module: str  # the path in the user's model
    origin: str  # the line that the node comes from: "net.py:12 in forward"
    inputs: Tuple[TensorInput, ...]
    nodes: int  # that make the value from these inputs
    max_abs: Optional[float]
    mismatches: int
    elements: int
    worst: Optional[WorstElement]
    failure: str  # the known failure that fits, or ""
    detail: str
    cause_origin: str  # the line that the cause is about
    growth: Tuple[Growth, ...] = ()
    case: Tuple[str, ...] = ()  # files that show the difference alone


class LayerCost(NamedTuple):
    """One layer in reduced precision, given the fp32 file's values."""

    node: str
    op: str
    origin: str
    error: Optional[float]  # relative, of Euclidean norms
    overflows: int  # values that are NaN or infinite in reduced precision alone


class PrecisionSearch(NamedTuple):
    """The layers that cost a reduced precision its accuracy."""

    precision: str
    within_budget: bool  # without any further node in fp32
    layers: Tuple[LayerCost, ...]  # the costliest first
    keep: Tuple[str, ...] = ()  # nodes that bring it within the budget if they stay in fp32
    nodes: int = 0  # that are in the reduced precision without them
    trials: int = 0  # files that were made and compared
    problem: Optional[str] = None  # why there is no list


class Bisection(NamedTuple):
    """The search for the first wrong node."""

    pair: Tuple[str, str]  # reference, candidate
    compared: int  # intermediate values
    divergences: Tuple[Divergence, ...]
    seconds: Optional[float] = None
    problem: Optional[str] = None  # why there was no search
    precisions: Tuple[PrecisionSearch, ...] = ()


class EngineSearch(NamedTuple):
    """The search for the first value in which TensorRT differs from ONNX Runtime."""

    found: Bisection  # with one divergence at most
    builds: int = 0  # engines with marked values
    inputs_error: Optional[float] = None  # of the wrong node's inputs, as a share of the largest
    persists: Optional[bool] = None  # the value is wrong too if it alone is marked
    hidden_by: Tuple[str, ...] = ()  # values that make the outputs right if they are marked
    layers: Tuple[str, ...] = ()  # of the engine without marks that compute the node
    fused: Tuple[str, ...] = ()  # layers of that engine which the one with marks lacks
    unfused: Tuple[str, ...] = ()  # and those that it has instead


class ValueAccuracy(NamedTuple):
    """One output of a reduced precision against PyTorch's in fp32."""

    runtime: str
    output: str
    relative_error: Optional[float]  # |candidate - reference| / |reference|, Euclidean norms
    cosine: Optional[float]
    max_abs: Optional[float]
    largest_error: float  # the budget for relative_error
    least_cosine: float  # the budget for cosine
    passed: bool
    samples: int = 1  # that were compared together
    problem: Optional[str] = None


class Agreement(NamedTuple):
    """How often a reduced precision decides as PyTorch in fp32."""

    runtime: str
    measure: str  # "top-1", "top-5", "pixels", "detections" or "mAP"
    value: float  # 0 to 1
    compared: int  # samples, pixels or detections
    data: str  # "input", or "held-out" samples of the calibration data
    least: Optional[float]  # the budget; None: shown, not judged
    passed: bool


class Calibration(NamedTuple):
    """What the scales of a quantized file come from."""

    source: str
    sha256: str
    samples: int  # that were used
    held_out: int  # that were kept for the comparison
    method: str
    cached: bool


class Precision(NamedTuple):
    """One precision of a conversion."""

    name: str
    stages: Tuple[Stage, ...]  # of PRECISION_STAGES; for fp32 those of the report
    file: Optional[str] = None
    file_bytes: Optional[int] = None
    engine_file: Optional[str] = None
    engine_bytes: Optional[int] = None
    seconds: Optional[float] = None  # of one run in ONNX Runtime on the CPU
    values: Tuple[ValueAccuracy, ...] = ()
    agreements: Tuple[Agreement, ...] = ()
    reduced_nodes: Optional[int] = None
    kept_nodes: Mapping[str, int] = {}  # reason -> number of nodes that stay in fp32
    calibration: Optional[Calibration] = None
    budget_source: str = ""
    notes: Tuple[str, ...] = ()
    engine: Optional[EngineFacts] = None  # None for fp32, whose facts are the report's


class Timing(NamedTuple):
    """The latency of one runtime at one batch size. Without times, ``reason`` says why."""

    runtime: str  # of TIMED
    precision: str
    batch: int
    device: str  # "cpu" or "cuda"
    is_graph: bool = False  # replayed as a CUDA graph
    runs: int = 0  # that were timed
    median_ms: Optional[float] = None
    p99_ms: Optional[float] = None  # None with fewer than FEWEST_FOR_P99 runs
    longest_ms: Optional[float] = None
    items_per_second: Optional[float] = None
    ready_seconds: Optional[float] = None  # to load, compile and run once, before the warm-up
    reason: Optional[str] = None  # why it was not run
    note: Optional[str] = None


FEWEST_FOR_P99 = 100  # of 99 runs, the slowest is beyond the 99th percentile


class LayerTime(NamedTuple):
    """One layer of an engine."""

    name: str
    milliseconds: float  # of one run, with the profiler on
    is_plugin: bool


class LayerProfile(NamedTuple):
    """The time of an engine by layer. Without layers, ``reason`` says why."""

    precision: str
    batch: int
    layers: int = 0  # that TensorRT's profiler reported
    milliseconds: Optional[float] = None  # of all of them
    plugin_share: Optional[float] = None  # of that time, 0 to 1; None: not known
    slowest: Tuple[LayerTime, ...] = ()
    reason: Optional[str] = None


class Latency(NamedTuple):
    """What ./run bench measured."""

    processor: str
    threads: int  # of PyTorch and ONNX Runtime on the CPU
    load: Optional[float]  # average number of running processes, when the timing began
    gpu: Optional[str]
    clocks: Optional[str]  # of the GPU, when the timing ended
    rounds: int  # in which the runtimes took turns
    timings: Tuple[Timing, ...]
    profiles: Tuple[LayerProfile, ...] = ()


class Package(NamedTuple):
    """A package that was installed for the model, beside those of the row."""

    name: str
    version: str
    sha256: str  # of the wheel


class Packages(NamedTuple):
    """The packages that the model needs."""

    asked: Tuple[str, ...]  # the requirements, such as "timm==1.0.31"
    installed: Tuple[Package, ...]  # with dependencies, without what the row has


class Report(NamedTuple):
    """One conversion."""

    row: str
    model: str
    precision: str  # "fp32", or those of --precision
    executor: str  # "host" or "docker"
    stages: Tuple[Stage, ...]  # all of STAGES, in that order
    parity: Tuple[OutputParity, ...] = ()
    detections: Tuple[DetectionParity, ...] = ()
    engine: Optional[EngineFacts] = None
    artifacts: Mapping[str, Mapping[str, Any]] = {}  # name -> {"sha256": hex, "bytes": int}
    inputs: Inputs = Inputs()
    versions: Mapping[str, str] = {}
    proposals: Tuple[Proposals, ...] = ()
    exporter: Optional[str] = None  # "dynamo" or "torchscript"
    opset: Optional[int] = None
    command: Optional[str] = None  # the command that repeats the conversion
    created: Optional[str] = None  # ISO 8601
    peak_memory_bytes: Optional[int] = None
    overlay: Optional[str] = None  # the picture's file name in the report's folder
    notes: Tuple[str, ...] = ()  # further remarks, one sentence each
    warnings: Tuple[ExporterWarning, ...] = ()  # each once
    symptoms: Tuple[Symptom, ...] = ()
    onnx_file: Optional[OnnxFile] = None  # None: the model was PyTorch's
    simplified: Optional[Simplified] = None
    dimensions: Tuple[DynamicDimension, ...] = ()
    sizes: Tuple[SizeParity, ...] = ()  # the first profile's opt is in parity as well
    precisions: Tuple[Precision, ...] = ()  # fp32 first; empty without --precision
    preprocess: Optional[Preprocess] = None  # None: the inputs are not made from a picture
    signature: Optional[Signature] = None  # None: there is no model.onnx
    latency: Optional[Latency] = None  # None: not by ./run bench
    bisection: Optional[Bisection] = None  # None: not asked for
    packages: Optional[Packages] = None  # None: the row's own packages are enough
    engine_search: Optional[EngineSearch] = None  # None: not asked for


def declared(tensor: OnnxTensor) -> str:
    """Return name, type and shape of an ONNX file's input or output in one line."""
    shape = "any shape" if tensor.shape is None else f"[{', '.join(tensor.shape)}]"
    return f"{tensor.name}: {tensor.dtype} {shape}"


def check_report(report: Report) -> None:
    """Check that a report is consistent before it is written.

    Raises:
        ValueError: a stage is missing, repeated, out of order or has an unknown status; a stage
            that did not pass has no reason; or what was not run has a time.
    """
    names = tuple(stage.name for stage in report.stages)
    if tuple(name for name in names if name not in OPTIONAL_STAGES) != STAGES:
        raise ValueError(f"a report has the stages {STAGES}, not {names}")
    for name, before in OPTIONAL_STAGES.items():
        if name in names and names[names.index(name) - 1] != before:
            raise ValueError(f"the stage {name} follows {before}: {names}")
    for stage in (*report.stages, *precision_stages(report)):
        if stage.status not in (PASSED, FAILED, NOT_RUN):
            raise ValueError(f"stage {stage.name}: unknown status {stage.status!r}")
        if stage.status != PASSED and not stage.reason:
            raise ValueError(f"stage {stage.name} is {stage.status} but has no reason")
        if stage.status == NOT_RUN and stage.seconds is not None:
            raise ValueError(f"stage {stage.name} was not run but has a time of {stage.seconds} s")
    for each in () if report.latency is None else report.latency.timings:
        if (each.reason is None) != (each.runs > 0) or (each.median_ms is None) != (each.runs == 0):
            raise ValueError(f"{each} has times and a reason why not, or neither")


def precision_stages(report: Report) -> List[Stage]:
    """Return the stages of every reduced precision, named ``int8: engine``."""
    return [
        stage._replace(name=f"{each.name}: {stage.name}")
        for each in report.precisions[1:]
        for stage in each.stages
    ]


def missed_budgets(report: Report) -> List[str]:
    """Return the precisions that differ from PyTorch in fp32 by more than their budget."""
    return [
        each.name
        for each in report.precisions[1:]
        if not all(one.passed for one in each.values)
        or not all(one.passed for one in each.agreements)
    ]


def compared_pairs(report: Report) -> List[Tuple[str, str]]:
    """Return the pairs of runtimes that were compared, without repeats, in order."""
    compared = [row.pair for row in report.parity] + [each.pair for each in report.detections]
    return list(dict.fromkeys(compared))


def uncompared_runtimes(report: Report) -> List[str]:
    """Return the runtimes that ran but whose outputs were not compared."""
    pairs = [pair for pair in compared_pairs(report) if UNSIMPLIFIED not in pair]
    compared = {name for pair in pairs for name in pair}
    passed = {stage.name for stage in report.stages if stage.status == PASSED}
    ran = [name for name in RUNTIMES if name in passed]
    return [name for name in ran[1:] if name not in compared]


def exit_code(report: Report) -> int:
    """Return the exit code of a conversion.

    0: all that could run passed. 1: runtimes disagree, or one ran and was not compared.
    3: nothing ran at all. 4: a stage failed.
    """
    statuses = {stage.status for stage in (*report.stages, *precision_stages(report))}
    if FAILED in statuses:
        return ConversionError.exit_code
    if PASSED not in statuses:
        return EnvironmentLacksError.exit_code
    compared = (*report.parity, *report.detections)  # type: Tuple[Compared, ...]
    passed = [each.passed for each in compared] + [each.passed for each in report.sizes]
    if not all(passed) or uncompared_runtimes(report):
        return ParityError.exit_code
    if missed_budgets(report):
        return ParityError.exit_code
    return 0
