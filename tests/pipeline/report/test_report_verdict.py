import numpy as np
import pytest
from report_examples import (
    NO_DEVICE,
    PAIR,
    a_classifier_report,
    a_failed_report,
    a_report,
    detector_outputs,
    passed_stages,
    stages_failed_at,
    verdict,
)

from trtyard.core.report import STAGES, Stage, check_report
from trtyard.pipeline.parity.comparison import compare_outputs
from trtyard.report.comparison_sections import detections_section


def test_agreement_exits_with_0_and_names_skipped_stages():
    code, text = verdict(a_report())
    assert code == 0
    assert "PyTorch and ONNX Runtime agree" in text
    assert f"Not run: TensorRT ({NO_DEVICE})" in text


def test_complete_run_lists_no_skipped_stage():
    report = a_report()
    tensorrt = compare_outputs(
        "detector", ("torch", "tensorrt"), detector_outputs(), detector_outputs()
    )
    code, text = verdict(
        report._replace(
            stages=passed_stages(tensorrt=Stage("tensorrt", "passed", 0.1)),
            parity=report.parity + tensorrt.parity,
            detections=report.detections + tensorrt.detections,
        )
    )
    assert (code, text) == (0, "PyTorch, ONNX Runtime and TensorRT agree within the tolerances.")


ON_THE_GPU = ("torch-cuda", "onnxruntime-cuda")


def with_gpu(report, *compared):
    """Return the report with a passed stage onnxruntime-cuda and these comparisons."""
    after = STAGES.index("onnxruntime") + 1
    stages = list(report.stages)
    stages.insert(after, Stage("onnxruntime-cuda", "passed", 0.1))
    return report._replace(
        stages=tuple(stages),
        parity=report.parity + sum((one.parity for one in compared), ()),
        detections=report.detections + sum((one.detections for one in compared), ()),
    )


def test_runtimes_on_the_gpu_are_named_apart():
    pairs = (("torch", "tensorrt"), ON_THE_GPU)
    outputs = detector_outputs(), detector_outputs()
    compared = [compare_outputs("detector", pair, *outputs) for pair in pairs]
    report = a_report()._replace(stages=passed_stages(tensorrt=Stage("tensorrt", "passed", 0.1)))
    report = with_gpu(report, *compared)
    check_report(report)
    assert verdict(report) == (
        0,
        "PyTorch, ONNX Runtime and TensorRT agree within the tolerances. "
        "PyTorch CUDA and ONNX Runtime CUDA agree within the tolerances.",
    )
    legend = str(detections_section(report, "data:")).partition("Boxes and scores: ")[2]
    assert legend.startswith("PyTorch solid, ONNX Runtime dashed and TensorRT dotted.")


def test_gpu_run_that_was_not_compared_exits_with_1():
    code, text = verdict(with_gpu(a_report()))
    assert code == 1
    assert text.startswith("ONNX Runtime CUDA ran, but no output was compared.")


def test_disagreement_exits_with_1_and_names_outputs():
    code, text = verdict(a_failed_report())
    assert code == 1
    assert "PyTorch and ONNX Runtime disagree on detections, boxes and labels." in text
    assert "agree within" not in text


def test_classifier_disagreement_exits_with_1():
    code, text = verdict(a_classifier_report(difference=1e-2))
    assert code == 1
    assert "PyTorch and ONNX Runtime disagree on logits." in text


def test_agreeing_and_disagreeing_pairs_are_listed():
    report = a_failed_report()
    good = compare_outputs(
        "detector", ("torch", "tensorrt"), detector_outputs(), detector_outputs()
    )
    code, text = verdict(report._replace(parity=report.parity + good.parity))
    assert code == 1
    assert "PyTorch and TensorRT agree" in text


@pytest.mark.parametrize("name", STAGES)
def test_failed_stage_exits_with_4_and_a_reason(name):
    report = a_report(stages=stages_failed_at(name, "no such op\nat node 7"), parity=(),
                      detections=())  # fmt: skip
    code, text = verdict(report)
    assert code == 4
    assert "failed: no such op." in text
    assert "\n" not in text


def test_failed_stage_outranks_disagreement():
    code, text = verdict(a_failed_report(stages=stages_failed_at("engine")))
    assert code == 4
    assert "The engine failed: it broke." in text
    assert "disagree on" in text
    _, text = verdict(a_report(stages=stages_failed_at("engine")))
    assert "PyTorch and ONNX Runtime agree within the tolerances." in text


def test_nothing_run_is_not_a_success():
    stages = tuple(Stage(name, "not-run", reason="no torch here") for name in STAGES)
    code, text = verdict(a_report(stages=stages, parity=(), detections=()))
    assert code == 3
    assert text.startswith("Nothing was run.")
    assert "no torch here" in text


def test_uncompared_runtime_is_not_a_success():
    code, text = verdict(a_report(parity=(), detections=()))
    assert code == 1
    assert "ONNX Runtime ran, but no output was compared." in text
    tensorrt_too = passed_stages(tensorrt=Stage("tensorrt", "passed", 0.1))
    code, text = verdict(a_report(stages=tensorrt_too))
    assert code == 1
    assert "TensorRT ran, but no output was compared." in text


def test_single_runtime_verdict_says_nothing_compared():
    stages = passed_stages(onnxruntime=Stage("onnxruntime", "not-run", reason="not installed"))
    code, text = verdict(a_report(stages=stages, parity=(), detections=()))
    assert code == 0
    assert "nothing was compared" in text
    assert "agree" not in text


def test_agreement_without_values_adds_a_warning():
    nothing = compare_outputs("detector", PAIR, detector_outputs(0), detector_outputs(0))
    code, text = verdict(a_report(nothing))
    assert code == 0
    assert "both detect nothing" in text
    assert "there are no elements" not in text  # said once
    zeros = {"logits": np.zeros((1, 9), np.float32)}
    code, text = verdict(a_report(compare_outputs("classifier", PAIR, zeros, zeros)))
    assert code == 0
    assert "every value of the reference is 0" in text


def test_stages_with_one_reason_are_grouped():
    _, text = verdict(a_classifier_report(stages=stages_failed_at("export")))
    assert "ONNX Runtime, the plugins, the engine and TensorRT (needs the stage export)" in text


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (passed_stages()[:-1], "has the stages"),
        (passed_stages()[::-1], "has the stages"),
        (passed_stages(export=Stage("export", "skipped", 1.0, "x")), "unknown status"),
        (passed_stages(export=Stage("export", "not-run")), "has no reason"),
        (passed_stages(export=Stage("export", "failed", 1.0)), "has no reason"),
        (passed_stages(export=Stage("export", "not-run", 1.0, "x")), "has a time of 1.0 s"),
    ],
)
def test_contradictory_report_is_refused(stages, words):
    with pytest.raises(ValueError, match=words):
        check_report(a_report(stages=stages))
    check_report(a_report())
