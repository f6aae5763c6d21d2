"""``doctor --model``: what is asked of the environment. Real answers are in tests/rows."""

import json
from pathlib import Path

import pytest

from trtyard.core.error_file import VARIABLE
from trtyard.core.errors import ConversionError, UsageError
from trtyard.core.files import write_json
from trtyard.diagnose import model_check
from trtyard.known_failures import named
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.environment import environment_of
from trtyard.run.row_command import ERROR_CODES


@pytest.mark.parametrize(
    ("failure", "said", "words"),
    [
        ("nonzero", "refuses", named("nonzero").cause),
        ("", "its input x is empty in a trial run", model_check._BEHIND),
        ("", "the shape of its input x is unknown", model_check._BEHIND),
        ("", "no such op", "no such op"),
    ],
)
def test_known_cause_comes_before_tensorrts_text(failure, said, words):
    answer = model_check._Answer(
        op="NonZero", state="unknown", number=1, nodes=[], said=said, failure=failure, ops=[]
    )
    assert model_check._reason(answer) == words


def test_known_failure_is_found_in_tensorrts_log(monkeypatch, tmp_path):
    facts = {"op": "TopK", "state": "refused", "number": 1, "nodes": [], "ops": []}
    said = "Internal Error (/TopK: K exceeds the maximum value allowed (3840).)"
    lines = [json.dumps({**facts, "said": words}) for words in (said, "it broke", said)]
    monkeypatch.setattr(model_check, "output_of", lambda *_, env: "\n".join(lines))
    row, lock = row_and_lock("default")
    environment = environment_of(row, lock, row.python)
    whole, kinds = model_check._answers(environment, tmp_path / "model.onnx")
    assert [one.failure for one in (whole, *kinds)] == ["topk-limit", "", "topk-limit"]


@pytest.fixture
def exported(monkeypatch, tmp_path):
    """Return a function that has a model exported; its commands, and the code they end with."""
    row, lock = row_and_lock("default")
    commands, codes = [], [0]

    def run(command, *, env):
        commands.append([str(word) for word in command])
        if not codes[0]:
            (tmp_path / "model.onnx").touch()
        elif codes[0] in ERROR_CODES:
            write_json(Path(env[VARIABLE]), {"message": "why", "hint": None, "log": None})
        return codes[0]

    monkeypatch.setattr(model_check, "run_plainly", run)
    monkeypatch.setattr(model_check, "make_environment", lambda *_: environment_of(*_, row.python))

    def export(model, input_shape="", size=""):
        return model_check._file(row, lock, model, tmp_path, input_shape=input_shape, size=size)

    return export, commands, codes


def test_input_and_size_reach_the_export(exported, tmp_path):
    export, commands, _ = exported
    assert export("net.py:make", "1x3x8x8", "64") == tmp_path / "model.onnx"
    assert commands[0][-2:] == ["--input=1x3x8x8", "--size=64"]
    assert commands[0][commands[0].index("--model") + 1] == "net.py:make"
    export("net.py:make(depth=18, act='relu')", "1x3x8x8")
    assert "net.py:make(depth=18, act='relu')" in commands.pop()
    export("alexnet")
    assert not [word for word in commands[1] if word.startswith(("--input", "--size"))]


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [(4, ConversionError, "cannot export"), (2, UsageError, "did not export")],
)
def test_failed_export_keeps_the_pipelines_exit_code(exported, code, kind, said):
    export, _, codes = exported
    codes[0] = code
    with pytest.raises(kind, match=f"{said} alexnet"):
        export("alexnet")


@pytest.mark.parametrize("code", [1, 77, -11])
def test_export_that_ends_without_a_file_is_an_error(exported, code):
    export, _, codes = exported
    codes[0] = code
    with pytest.raises(ConversionError, match=f"exit code {code} and left no ONNX file"):
        export("alexnet")


def test_export_that_ends_well_without_a_file_is_an_error(exported, monkeypatch):
    export, _, _ = exported
    monkeypatch.setattr(model_check, "run_plainly", lambda *_, env: 0)
    with pytest.raises(ConversionError, match="exit code 0 and left no ONNX file"):
        export("alexnet")


def test_non_literal_arguments_are_refused(exported):
    export, commands, _ = exported
    with pytest.raises(UsageError, match="is not a literal"):
        export("net.py:make(x=N)")
    assert not commands
