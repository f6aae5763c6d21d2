import numpy as np
import pytest

from trtyard.pipeline.parity.kind import ANY
from trtyard.pipeline.parity.outputs import compare
from trtyard.pipeline.parity.tolerance import DETECTION
from trtyard.pipeline.parity.tolerances import TOLERANCES, tolerance_for


def test_every_entry_names_its_source():
    assert all(tolerance.source for tolerance in TOLERANCES.values())


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("kind", "output"), TOLERANCES)
def test_every_tolerance_rejects_a_wrong_output(kind, output, dtype):
    """One value of a thousand is wrong by a percent of the largest: a tenth of a pixel, say."""
    reference = np.linspace(-10, 10, 1000, dtype=np.float32)
    wrong = reference.copy()
    wrong[500] += 0.1
    name = "out" if output == ANY else output
    atol, rtol = tolerance_for(kind, name, dtype).bounds(reference)
    assert not compare(("torch", "tensorrt"), output, reference, wrong, atol, rtol).passed
    wrong[500] = reference[500]
    wrong[0] *= 1.01
    assert not compare(("torch", "tensorrt"), output, reference, wrong, atol, rtol).passed


def test_float16_layers_set_float32_output_tolerance():
    half = tolerance_for("tensor", "out", np.float16)
    assert tolerance_for("tensor", "out", np.float32, has_float16=True) == half
    assert tolerance_for("tensor", "out", np.float32) != half
    for kind, output in [("classifier", "logits"), ("detector", "boxes")]:
        entry = tolerance_for(kind, output, np.float32)
        assert tolerance_for(kind, output, np.float32, has_float16=True) == entry


def test_detector_promises_hold():
    assert (DETECTION.box, DETECTION.score) == (0.05, 1e-3)
    assert tolerance_for("detector", "labels", np.int32).bounds(np.array([1])) == (0.0, 0.0)


def test_classifier_tolerance_is_a_share_of_the_largest_logit():
    tolerance = tolerance_for("classifier", "logits", np.float32)
    assert tolerance.bounds(np.array([[0.01, -0.05]], np.float32))[0] == pytest.approx(5e-5)
    assert tolerance.bounds(np.array([[100.0, 1.0]], np.float32))[0] == pytest.approx(0.1)


@pytest.mark.parametrize("filling", [-1e4, -1e9, float(np.finfo(np.float32).min)])
def test_mask_fill_value_does_not_widen_tolerance(filling):
    reference = np.linspace(-1, 1, 1000, dtype=np.float32)
    tolerance = tolerance_for("tensor", "output", np.float32)
    without = tolerance.bounds(reference)
    filled = np.concatenate([reference, np.full(3000, filling, np.float32)])
    filled[-1] = filled[-1] * np.float32(1 - 1e-7)  # as adding it to a score leaves it
    assert tolerance.bounds(filled) == without
    wrong = filled.copy()
    wrong[500] += 0.01
    assert not compare(("torch", "tensorrt"), "y", filled, wrong, *without).passed


@pytest.mark.parametrize(
    "values", [[5e3, 0.1], [1e5, 2e3, 1.0], [1e9, 0.0], [3e4], [1e6, 1e4, 1.0]]
)
def test_ordinary_value_is_not_a_fill_value(values):
    tolerance = tolerance_for("tensor", "output", np.float32)
    assert tolerance.bounds(np.array(values))[0] == pytest.approx(1e-4 * max(values))


@pytest.mark.parametrize("values", [[], [0.0], [np.nan], [np.inf]])
def test_tolerance_without_finite_values_is_zero(values):
    tolerance = tolerance_for("tensor", "output", np.float32)
    assert tolerance.bounds(np.array(values, np.float32))[0] == 0.0


def test_float16_has_its_own_tolerance():
    ones = np.ones(3, np.float16)
    half = tolerance_for("tensor", "output", np.float16).bounds(ones)[0]
    assert half > float(np.finfo(np.float16).eps) / 2
    assert tolerance_for("tensor", "output", np.float32).bounds(ones)[0] < half


def test_unknown_kinds_and_detector_outputs_are_refused():
    with pytest.raises(ValueError, match=r"no tolerance for sorcery/out; known are .*classifier"):
        tolerance_for("sorcery", "out", np.float32)
    with pytest.raises(ValueError, match="no tolerance for detector/masks"):
        tolerance_for("detector", "masks", np.float32)
