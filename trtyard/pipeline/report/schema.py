"""What a report is made of. Everything that is shown or stored comes from these records."""

from typing import Any, Mapping, NamedTuple, Optional, Tuple

from trtyard.pipeline.parity.detections import DetectionParity
from trtyard.pipeline.parity.outputs import OutputParity
from trtyard.pipeline.stages import FAILED, NOT_RUN, PASSED, Stage

SCHEMA = 1

STAGES = ("torch", "export", "onnxruntime", "plugins", "engine", "tensorrt")
REFERENCE_RUNTIME = "torch"
# The stages whose outputs are compared with the reference's.
COMPARED_RUNTIMES = ("onnxruntime", "tensorrt")

# How the source of weights that nobody trained begins; the seed follows.
SEEDED = "seeded"

JSON_FILE, HTML_FILE, JUNIT_FILE = "report.json", "report.html", "junit.xml"


class EngineFacts(NamedTuple):
    """The engine that was built."""

    bytes: int
    layers: int  # of the network, before the builder fuses them
    plugin_layers: Tuple[str, ...]  # op types, one for each layer
    warnings: Tuple[str, ...] = ()  # the builder's own words


class TensorInput(NamedTuple):
    """One input of the network."""

    name: str
    shape: Tuple[int, ...]
    dtype: str


class Image(NamedTuple):
    """The picture that went in."""

    name: str
    sha256: str
    width: int  # pixels of the file, before it is resized for the network
    height: int


class Weights(NamedTuple):
    """The weights that the model had."""

    source: str  # "seeded:0", or the file's name
    sha256: str


class Inputs(NamedTuple):
    """What the conversion was given."""

    tensors: Tuple[TensorInput, ...] = ()
    image: Optional[Image] = None
    weights: Optional[Weights] = None


class Proposals(NamedTuple):
    """How many of a detector's padded proposals were real ones, by one runtime's count."""

    runtime: str
    alive: int
    padded: Optional[int]  # rows that went through the box head; None if not known


class Report(NamedTuple):
    """One conversion."""

    row: str
    model: str
    precision: str  # "fp32"
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
    command: Optional[str] = None  # what to type to do it again
    created: Optional[str] = None  # ISO 8601
    peak_memory_bytes: Optional[int] = None
    overlay: Optional[str] = None  # the picture's file name in the report's folder
    notes: Tuple[str, ...] = ()  # anything else a reader should know, a sentence each


def check_report(report: Report) -> None:
    """See that a report can be believed, before anything is written.

    Raises:
        ValueError: a stage is missing, twice, out of order or of no known status; one that did
            not pass gives no reason; or one that was not run has a time.
    """
    names = tuple(stage.name for stage in report.stages)
    if names != STAGES:
        raise ValueError(f"a report has the stages {STAGES}, not {names}")
    for stage in report.stages:
        if stage.status not in (PASSED, FAILED, NOT_RUN):
            raise ValueError(f"stage {stage.name}: no status is called {stage.status!r}")
        if stage.status != PASSED and not stage.reason:
            raise ValueError(f"stage {stage.name} is {stage.status} and does not say why")
        if stage.status == NOT_RUN and stage.seconds is not None:
            raise ValueError(f"stage {stage.name} was not run, yet took {stage.seconds} s")
