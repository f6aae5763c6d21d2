import pytest

from trtyard.batch.record import Result, is_final, write_result
from trtyard.batch.slurm import _has_ended, _state_of, open_submission
from trtyard.core.errors import EnvironmentLacksError


@pytest.mark.parametrize("text", ["", "{", "[]", '{"arrays": {}, "other": 1}'])
def test_damaged_file_of_arrays_is_an_error(tmp_path, text):
    assert open_submission(tmp_path) is None
    (tmp_path / "slurm.json").write_text(text)
    with pytest.raises(EnvironmentLacksError, match=r"slurm\.json is damaged"):
        open_submission(tmp_path)


def ended(folder, state, *, code=None, waited=0.0):
    if code is not None:
        write_result(folder, Result(exit_code=code, identity={}, report=None))
    return _has_ended(folder, state, {str(folder): -waited} if waited else {})


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [
        ("RUNNING", None, False),
        ("RUNNING", 0, True),
        ("COMPLETING", 4, True),
        ("PENDING", 3, False),  # Slurm requeues it
        ("COMPLETING", 3, False),
        ("FAILED", 3, True),
        ("", 3, True),
        ("CANCELLED", None, True),
        ("TIMEOUT", None, True),
        ("OUT_OF_MEMORY", None, True),
        ("FAILED", None, False),  # the result may appear later
        ("COMPLETED", None, False),
        ("", None, False),
    ],
)
def test_end_is_known_from_the_result_and_the_state(tmp_path, state, code, expected):
    assert ended(tmp_path, state, code=code) is expected


@pytest.mark.parametrize("state", ["FAILED", ""])
def test_missing_result_is_waited_for_and_then_given_up(tmp_path, state):
    assert ended(tmp_path, state, waited=1e9)


@pytest.mark.parametrize(
    ("code", "expected"),
    [(0, True), (1, True), (2, True), (3, False), (4, True), (5, True), (-9, False), (70, False)],
)
def test_codes_that_another_attempt_may_avoid_are_not_final(code, expected):
    assert is_final(Result(exit_code=code, identity={}, report=None)) is expected


def test_index_that_was_cancelled_before_it_started_is_cancelled():
    pending = set()
    assert _state_of(("7", "0"), {("7", "0"): ("PENDING", "Resources")}, pending)[0] == "PENDING"
    assert _state_of(("7", "0"), {}, pending) == ("CANCELLED", "")
    assert _state_of(("7", "1"), {("7", "N/A"): ("CANCELLED", "None")}, pending)[0] == "CANCELLED"
    assert _state_of(("7", "2"), {}, pending) == ("", "")
