"""trtyard/report/report.schema.json is what report.json holds."""

import json

import fastjsonschema
import pytest

from trtyard.core.errors import IntegrityError
from trtyard.core.report import (
    FAILED,
    PASSED,
    STAGES,
    DetectionParity,
    DetectionTolerance,
    EngineFacts,
    ErrorHistogram,
    Inputs,
    Match,
    OnnxFile,
    OnnxTensor,
    OutputParity,
    Picture,
    Preprocess,
    Proposals,
    Report,
    Signature,
    Simplified,
    Stage,
    TensorInput,
    Unmatched,
    Weights,
    WorstElement,
)
from trtyard.core.report_json import report_value
from trtyard.report import reading
from trtyard.report.reading import SCHEMA_FILE, report_of, write_schema
from trtyard.system.uv import ROOT

PAIR = ("torch", "onnxruntime")
INF = float("inf")
REPORT = Report(
    *("rtx-1.7", "net", "fp32", "host"),
    (
        *tuple(Stage(name, PASSED, 1.5, note="a note") for name in STAGES[:-1]),
        Stage(STAGES[-1], FAILED, 0.5, "it broke", "a hint"),
    ),
    parity=(
        OutputParity(
            *(PAIR, "out", 9, INF, 0.5, 1.0, 1e-3, 0.0, 1, False),
            worst=WorstElement((0, 3), 1.0, -INF),
            histogram=ErrorHistogram(5, -7, (2, 0, 1), 1),
        ),
    ),
    detections=(
        DetectionParity(
            *(PAIR, 2, 1, 1, 1, 0.99, 1e-5, 1e-3, DetectionTolerance(0.05, 1e-3), False),
            matches=(Match(0, 0, (1, 1), (0.9, 0.9), 0.99, 1e-3, 1e-5, True),),
            unmatched=(Unmatched("torch", 1, 7, 0.2, (0.0, 1.0, 2.0, 3.0), "no counterpart"),),
        ),
    ),
    engine=EngineFacts(1000, 7, ("PaddedNMS",), ("a warning",)),
    artifacts={"model.onnx": {"sha256": "00", "bytes": 3}},
    inputs=Inputs(
        (TensorInput("x", (1, 3), "float32"),), Picture("p", "00", 4, 5), Weights("w", "0")
    ),
    versions={"torch": "2.13.0"},
    proposals=(Proposals("torch", 7, None),),
    exporter="dynamo",
    opset=18,
    notes=("a note",),
    onnx_file=OnnxFile(
        *(7, 18, 10),
        (OnnxTensor("x", "float32", ("batch", "3")), OnnxTensor("any", "int64", None)),
        (OnnxTensor("y", "float32", ()),),
        "pytorch 2.13.0",
    ),
    simplified=Simplified(9, 7),
    preprocess=Preprocess("crop", "RGB", 255.0, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 256),
    signature=Signature((), (OnnxTensor("y", "float32", ("batch", "3")),)),
)


@pytest.fixture(scope="module")
def validate():
    return fastjsonschema.compile(json.loads((ROOT / SCHEMA_FILE).read_text()))


def stored():
    return json.loads(json.dumps(report_value(REPORT), allow_nan=False))


def test_schema_file_is_up_to_date():
    write_schema(check=True)


def test_outdated_schema_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "ROOT", tmp_path)
    (tmp_path / SCHEMA_FILE).parent.mkdir(parents=True)
    (tmp_path / SCHEMA_FILE).write_text("{}")
    with pytest.raises(IntegrityError, match=r"report\.schema\.json differs"):
        write_schema(check=True)
    write_schema(check=False)
    write_schema(check=True)


def test_a_report_is_valid_and_read_back(validate):
    validate(stored())
    assert report_of(stored()) == REPORT


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.pop("stages"),
        lambda value: value.update(schema=1),
        lambda value: value.update(opset="18"),
        lambda value: value["parity"][0].update(max_abs="infinite"),
        lambda value: value["detections"][0]["matches"][0].update(within=1),
    ],
)
def test_a_wrong_report_is_not_valid(validate, change):
    value = stored()
    change(value)
    with pytest.raises(fastjsonschema.JsonSchemaException):
        validate(value)
