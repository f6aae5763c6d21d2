"""The book of stages: what becomes of a stage, and what is remarked while it runs."""

import pytest

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.pipeline.stages import NotRunError, StageBook


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "passed"),
        (ConversionError("no"), "failed"),
        (EnvironmentLacksError("no"), "not-run"),
        (NotRunError("no"), "not-run"),
    ],
)
def test_note_stays_with_its_stage(error, status):
    book = StageBook(lambda _: None)

    def action():
        book.remark("engine", "by the way")
        if error is not None:
            raise error
        return 3

    assert book.attempt("export", "do nothing", lambda: 1) == 1
    assert book.attempt("engine", "do something", action) == (3 if error is None else None)
    export, engine = book.stages
    assert (export.status, export.note) == ("passed", None)
    assert (engine.status, engine.note) == (status, "by the way")


@pytest.mark.parametrize("kind", [ConversionError, EnvironmentLacksError])
def test_failed_stage_keeps_the_end_of_its_log(kind):
    def action():
        raise kind("refused", log="x" * (1 << 16) + "the end")

    book = StageBook(lambda _: None)
    book.attempt("engine", "build", action)
    (stage,) = book.stages
    assert stage.log.endswith("xthe end")
    assert len(stage.log) == 1 << 16


def test_unexpected_error_is_raised():
    book = StageBook(lambda _: None)

    def action():
        raise KeyError("x")

    with pytest.raises(KeyError):
        book.attempt("torch", "break", action)


def test_a_stage_is_announced_with_its_last_time():
    said = []
    book = StageBook(said.append, {"export": 3.21})
    book.attempt("export", "dynamo exporter", lambda: 1)
    book.attempt("engine", "build", lambda: 1)
    assert said == ["export: dynamo exporter (last time: 3.2 s)", "engine: build"]
