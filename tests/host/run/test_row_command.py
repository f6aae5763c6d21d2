"""A command in a row's environment: its error reaches the user with cause and fix."""

import os
import sys

import pytest

from trtyard.core.errors import ConversionError
from trtyard.known_failures import named
from trtyard.run.row_command import run_with_advice
from trtyard.system.processes import run, run_plainly
from trtyard.system.uv import ROOT

COMMAND = """
import sys
from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.pipeline import cli
cli._run = lambda options: (_ for _ in ()).throw({error})
sys.exit(cli.main(["onnx-facts", "--row-file", "row.json", "--onnx", "model.onnx"]))
"""


@pytest.fixture(params=[run, run_plainly])
def said(request, capfd):
    """Return a function that lets a command end with an error; its exit code and what is shown."""

    def end_with(error):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", COMMAND.format(error=error)]
        code = run_with_advice(request.param, command, env=env, row="rtx-1.7")
        return code, capfd.readouterr().err

    return end_with


def test_a_known_error_is_shown_once_with_cause_and_fix(said):
    known = named("host-compiler-unsupported")
    log = "#error -- unsupported GNU version!"
    code, shown = said(f"EnvironmentLacksError('it failed', 'a general hint', {log!r})")
    assert code == 3
    assert shown == f"trtyard: it failed\n  why: {known.cause}\n  {known.hint}\n"


def test_any_other_error_is_shown_as_it_is(said):
    assert said("UsageError('no such model', 'name one')") == (
        2,
        "trtyard: no such model\n  name one\n",
    )


def test_failed_command_shows_its_output(said):
    code, shown = said("SystemExit('it died')")
    assert code == 1
    assert shown == "it died\n"


def test_an_error_code_without_an_error_is_reported(said):
    with pytest.raises(ConversionError, match="ended with exit code 3 and no error") as caught:
        said("SystemExit(3)")
    assert "os._exit" in caught.value.hint
