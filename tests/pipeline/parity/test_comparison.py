import numpy as np
import pytest

from trtyard.core.errors import ParityError
from trtyard.pipeline.parity.comparison import Comparison, compare_outputs
from trtyard.pipeline.parity.padded import unpadded

PAIR = ("torch", "onnxruntime")


def detector_outputs(counts=(3,), capacity=5, seed=0):
    generator = np.random.default_rng(seed)
    batch = len(counts)
    outputs = {
        "boxes": np.zeros((batch, capacity, 4), np.float32),
        "scores": np.zeros((batch, capacity), np.float32),
        "labels": np.zeros((batch, capacity), np.int32),
        "count": np.array(counts, np.int32),
        "proposals": np.array([40] * batch, np.int32),
    }
    for image, count in enumerate(counts):
        corner = generator.uniform(0, 300, (count, 2))
        outputs["boxes"][image, :count] = np.concatenate([corner, corner + 50], axis=1)
        outputs["scores"][image, :count] = np.sort(generator.uniform(0.1, 1, count))[::-1]
        outputs["labels"][image, :count] = generator.integers(1, 81, count)
    return outputs


def copied(outputs):
    return {name: value.copy() for name, value in outputs.items()}


def detectors(reference, candidate):
    return compare_outputs("detector", PAIR, reference, candidate)


def test_equal_detectors_pass_in_every_output_and_image():
    outputs = detector_outputs((3, 0, 5))
    comparison = detectors(outputs, copied(outputs))
    assert comparison.passed
    assert [row.output for row in comparison.parity] == ["boxes", "scores", "labels"]
    assert [row.elements for row in comparison.parity] == [8 * 4, 8, 8]
    assert [each.image for each in comparison.detections] == [0, 1, 2]
    assert [each.reference for each in comparison.detections] == [3, 0, 5]


def test_swapped_rows_agree():
    outputs = detector_outputs()
    outputs["scores"][0, 1] = outputs["scores"][0, 0] - 1e-6  # nearly tied
    swapped = copied(outputs)
    for name in ("boxes", "scores", "labels"):
        swapped[name][0, [0, 1]] = swapped[name][0, [1, 0]]
    comparison = detectors(outputs, swapped)
    assert comparison.passed
    assert comparison.parity[0].max_abs == 0.0


def test_unmatched_detection_fails_outside_the_rows():
    outputs = detector_outputs((3,))
    fewer = detector_outputs((3,))
    for name in ("boxes", "scores", "labels"):
        fewer[name][0, 2] = 0
    fewer["count"][0] = 2
    comparison = detectors(outputs, fewer)
    assert not comparison.passed
    assert [row.elements for row in comparison.parity] == [8, 2, 2]
    assert all(row.passed for row in comparison.parity)
    assert not comparison.detections[0].passed


@pytest.mark.parametrize("counts", [(0, 3), (3, 0)])
def test_detections_on_one_side_only_fail_every_row(counts):
    comparison = detectors(*(detector_outputs((count,)) for count in counts))
    assert not comparison.detections[0].passed
    assert {row.problem for row in comparison.parity} == {"no detection was matched"}


def test_nothing_matched_fails_every_row():
    moved = detector_outputs()
    moved["boxes"][0, :3] += 1000
    comparison = detectors(detector_outputs(), moved)
    assert not any(row.passed for row in comparison.parity)
    assert {row.problem for row in comparison.parity} == {"no detection was matched"}


def test_no_detections_pass_with_a_warning():
    comparison = detectors(detector_outputs((0,)), detector_outputs((0,)))
    assert comparison.passed
    assert all(row.caution for row in comparison.parity)


def test_proposal_counts_may_differ():
    other = detector_outputs()
    other["proposals"] += 1
    assert detectors(detector_outputs(), other).passed


def broken(change):
    outputs = detector_outputs()
    change(outputs)
    return outputs


BREAKS = {
    "no output .*count": lambda outputs: outputs.pop("count"),
    "no output named boxes": lambda outputs: outputs.pop("boxes"),
    "count is 6 with room for 5": lambda outputs: outputs["count"].fill(6),
    "count is -1": lambda outputs: outputs["count"].fill(-1),
    "row 1 of 3 detections has the padding label": lambda outputs: outputs["labels"].put(1, 0),
    "labels has padding rows": lambda outputs: outputs["labels"].put(4, 7),
    "scores has padding rows": lambda outputs: outputs["scores"].put(4, np.nan),
    "boxes has padding rows": lambda outputs: outputs["boxes"].put(19, 1),
    "shapes do not fit": lambda outputs: outputs.update(labels=outputs["labels"][:, :4]),
}


@pytest.mark.parametrize("words", BREAKS)
def test_broken_output_contract_names_the_runtime(words):
    with pytest.raises(ParityError, match=words):
        unpadded(broken(BREAKS[words])) if "no output .*" not in words else detectors_of(words)
    comparison = detectors(detector_outputs(), broken(BREAKS[words]))
    assert not comparison.passed
    assert comparison.parity == ()
    assert comparison.detections[0].problem.startswith("onnxruntime: ")
    blamed = detectors(broken(BREAKS[words]), detector_outputs()).detections[0]
    assert blamed.problem.startswith("torch: ")


def detectors_of(words):
    from trtyard.pipeline.parity.padded import images_in

    return images_in(broken(BREAKS[words]))


def test_different_numbers_of_images_fail():
    comparison = detectors(detector_outputs((3, 3)), detector_outputs((3,)))
    assert not comparison.passed
    assert comparison.detections[0].problem == "2 images against 1"


def test_unpadded_gives_the_live_rows():
    outputs = detector_outputs((2, 4))
    found = unpadded(outputs, 1)
    assert found.boxes.shape == (4, 4)
    assert found.capacity == 5
    np.testing.assert_array_equal(found.scores, outputs["scores"][1, :4])


def test_classifier_outputs_are_compared_in_the_reference_order():
    outputs = {"b": np.ones((1, 3), np.float32), "a": np.full((1, 2), 2.0, np.float32)}
    comparison = compare_outputs("classifier", PAIR, outputs, copied(outputs))
    assert [row.output for row in comparison.parity] == ["b", "a"]
    assert [row.atol for row in comparison.parity] == pytest.approx([1e-3, 2e-3])
    assert comparison.passed
    assert comparison.detections == ()
    assert all(row.tolerance_source for row in comparison.parity)


def test_classifier_difference_over_tolerance_fails():
    reference = {"logits": np.array([[8.0, 0.0]], np.float32)}
    near = {"logits": np.array([[8.0, 7e-3]], np.float32)}
    far = {"logits": np.array([[8.0, 9e-3]], np.float32)}
    assert compare_outputs("classifier", PAIR, reference, near).passed
    assert not compare_outputs("classifier", PAIR, reference, far).passed


@pytest.mark.parametrize(("lacks", "blamed"), [(0, "torch"), (1, "onnxruntime")])
def test_output_missing_on_one_side_fails(lacks, blamed):
    sides = [{"a": np.ones(2), "b": np.ones(2)} for _ in range(2)]
    del sides[lacks]["b"]
    comparison = compare_outputs("tensor", PAIR, *sides)
    assert not comparison.passed
    assert comparison.parity[1].problem == f"{blamed} has no such output"


def test_nothing_compared_is_not_a_pass():
    assert not Comparison((), ()).passed
