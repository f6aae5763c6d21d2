"""Reports built from real comparisons of small made-up outputs."""

import numpy as np

from trtyard.core.report import (
    EngineFacts,
    Inputs,
    Picture,
    Proposals,
    Report,
    Stage,
    TensorInput,
    Weights,
)
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.report.verdict import judge

PAIR = ("torch", "onnxruntime")
NO_DEVICE = "no CUDA device on this machine"
SHA = "0123456789abcdef" * 4


def verdict(report):
    judged = judge(report)
    return judged.exit_code, judged.text


def passed_stages(**others):
    """All stages passed but TensorRT; ``others`` replaces some by name."""
    stages = [
        Stage("torch", "passed", 3.1),
        Stage("export", "passed", 9.0),
        Stage("onnxruntime", "passed", 2.0),
        Stage("plugins", "passed", 4.0),
        Stage("engine", "passed", 1.4),
        Stage("tensorrt", "not-run", reason=NO_DEVICE),
    ]
    return tuple(others.get(stage.name, stage) for stage in stages)


def stages_failed_at(name, reason="it broke", hint=None):
    stages, found = [], False
    for stage in passed_stages():
        if stage.name == name:
            stages.append(Stage(name, "failed", 1.0, reason, hint))
            found = True
        elif found:
            stages.append(Stage(stage.name, "not-run", reason=f"needs the stage {name}"))
        else:
            stages.append(stage)
    return tuple(stages)


def detector_outputs(count=3, capacity=5, shift=0.0):
    outputs = {
        "boxes": np.zeros((1, capacity, 4), np.float32),
        "scores": np.zeros((1, capacity), np.float32),
        "labels": np.zeros((1, capacity), np.int32),
        "count": np.array([count], np.int32),
    }
    for row in range(count):
        outputs["boxes"][0, row] = [40 * row + shift, 10, 40 * row + 30 + shift, 60]
        outputs["scores"][0, row] = 0.9 - 0.1 * row
        outputs["labels"][0, row] = row + 1
    return outputs


def a_report(comparison=None, **changes):
    """A detector's report: all agree, TensorRT not run."""
    if comparison is None:
        comparison = compare_outputs(
            "detector", PAIR, detector_outputs(), detector_outputs(shift=0.004)
        )
    report = Report(
        row="rtx-1.7",
        model="faster_rcnn",
        precision="fp32",
        executor="host",
        stages=passed_stages(),
        parity=comparison.parity,
        detections=comparison.detections,
        engine=EngineFacts(137_900_000, 598, ("PaddedNMS", "PaddedNMS", "MaskRcnnROIAlign")),
        artifacts={"model.onnx": {"sha256": SHA, "bytes": 135_000_000}},
        inputs=Inputs(
            (TensorInput("image", (1, 3, 512, 512), "float32"),),
            Picture("astronaut.png", SHA, 512, 512),
            Weights("seeded:0", SHA),
        ),
        versions={"tensorrt": "1.7.1.116", "torch": "2.13.0", "python": "3.11.7"},
        proposals=(Proposals("torch", 40, 300),),
        exporter="dynamo",
        opset=18,
        command="./run convert --model faster_rcnn",
        created="2026-11-23T10:00:00+00:00",
        peak_memory_bytes=2_000_000_000,
    )
    return report._replace(**changes)


def a_failed_report(**changes):
    """One detection moved by 4 pixels and one relabelled."""
    broken = detector_outputs()
    broken["boxes"][0, 1] += 4
    broken["labels"][0, 2] = 9
    comparison = compare_outputs("detector", PAIR, detector_outputs(), broken)
    return a_report(comparison, **changes)


def a_classifier_report(difference=1e-8, **changes):
    logits = np.linspace(-1, 1, 1000, dtype=np.float32)[None]
    comparison = compare_outputs(
        "classifier", PAIR, {"logits": logits}, {"logits": logits + np.float32(difference)}
    )
    return a_report(comparison, model="alexnet", proposals=(), **changes)


HOSTILE = "<script>alert('x')</script>\"&\x00\x1b[31m\u202e{}%s"


def a_hostile_report():
    """User text that is markup, in every place that takes user text."""
    stages = stages_failed_at("export", HOSTILE + "\nsecond line", HOSTILE)
    return a_failed_report(
        row=HOSTILE,
        model=HOSTILE,
        precision=HOSTILE,
        executor=HOSTILE,
        stages=stages,
        engine=EngineFacts(1, 2, (HOSTILE,), (HOSTILE,)),
        artifacts={HOSTILE: {"sha256": HOSTILE, "bytes": 3}},
        inputs=Inputs(
            (TensorInput(HOSTILE, (1,), HOSTILE),),
            Picture(HOSTILE, HOSTILE, 1, 1),
            Weights(HOSTILE, HOSTILE),
        ),
        versions={HOSTILE: HOSTILE},
        proposals=(Proposals(HOSTILE, 1, 2),),
        exporter=HOSTILE,
        command=HOSTILE,
        created=HOSTILE,
        notes=(HOSTILE,),
        parity=tuple(
            row._replace(output=HOSTILE, problem=HOSTILE, tolerance_source=HOSTILE)
            for row in a_failed_report().parity
        ),
        detections=tuple(
            each._replace(pair=(HOSTILE, HOSTILE)) for each in a_failed_report().detections
        ),
    )


def a_broken_report():
    """Return a report of outputs with NaN and infinity, where floats are no plain JSON."""
    reference = {"out": np.array([1.0, -np.inf, np.nan], np.float32)}
    candidate = {"out": np.array([np.nan, np.inf, np.nan], np.float32)}
    return a_report(compare_outputs("tensor", PAIR, reference, candidate))
