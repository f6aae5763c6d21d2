"""A user's file never comes before Python's or the row's module of that name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.shadowing import is_elsewhere, refuse_clashes

ROOT = Path(__file__).parents[3]
NET = "from torch import nn\ndef make(): return nn.Linear(4, 2)\n"
ROW = {"name": "rtx-1.7", "tensorrt": "1.7.1.116", "flavour": "rtx", "exporter": "dynamo"}
ROW.update(opset=18, cuda="13.0", architectures=["89"], runs_on=["8.9"])


@pytest.fixture
def exported(tmp_path):
    """Return a function that exports a model from a folder with these files, as a user does."""
    (tmp_path / "row.json").write_text(json.dumps(ROW))
    folder = tmp_path / "code"
    folder.mkdir()

    def export(model, files, **variables):
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        words = ["-m", "trtyard.pipeline", "export", "--row-file", str(tmp_path / "row.json")]
        words += ["--model", model, "--input", "1x4", "--out", str(tmp_path / "model.onnx")]
        env = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **variables}
        done = subprocess.run(
            [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True
        )
        return done.returncode, done.stderr

    return export


# Without the variable -m puts the folder first on the path, as Python before 3.11 always does.
@pytest.mark.parametrize("variables", [{}, {"PYTHONSAFEPATH": "1"}])
@pytest.mark.parametrize("model", ["net:make", "net.py:make"])
@pytest.mark.slow
def test_unrelated_files_are_ignored(exported, model, variables):
    broken = "raise RuntimeError('this one is imported')\n"
    files = dict.fromkeys(["statistics.py", "signal.py", "onnx/__init__.py"], broken)
    files["net.py"] = NET
    assert exported(model, files, **variables) == (0, "")


@pytest.mark.parametrize("model", ["net:make", "net.py:make"])
@pytest.mark.slow
def test_imported_name_that_shadows_the_row_is_named(exported, model):
    files = {"net.py": "import helper\n" + NET, "helper.py": "import json\nimport statistics\n"}
    code, said = exported(model, {**files, "statistics.py": "x = 1\n"})
    assert code == 2
    assert "helper.py, line 2, imports statistics, which is both" in said
    assert f"code{os.sep}statistics.py and a module of this row's Python" in said
    assert "\n  rename " in said


@pytest.mark.slow
def test_package_named_torch_is_reported(exported):
    files = {"net.py": NET, "torch/__init__.py": "raise RuntimeError('this one is imported')\n"}
    code, said = exported("net:make", files)
    assert code == 2
    assert "net.py, line 1, imports torch, which is both " in said
    assert "code/torch and a module" in said


@pytest.mark.slow
def test_model_module_must_not_shadow_the_rows(exported):
    code, said = exported("statistics:make", {"statistics.py": NET})
    assert code == 2
    assert "--model statistics:make names statistics, which is both" in said


@pytest.mark.slow
def test_model_file_may_have_any_name(exported):
    assert exported("torch.py:make", {"torch.py": NET}) == (0, "")


@pytest.mark.slow
def test_trtyards_own_files_do_not_come_before_the_users(exported):
    assert (ROOT / "tasks.py").is_file()
    assert exported("tasks:make", {"tasks.py": NET}) == (0, "")


def test_relative_imports_and_broken_files_are_ignored(tmp_path):
    package = tmp_path / "net_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("from . import json\nfrom .json import x\n")
    (package / "json.py").write_text("x = 1\n")
    (package / "broken.py").write_text("class (:\n")
    refuse_clashes(package, tmp_path)
    (package / "more.py").write_text("import json\n")
    (tmp_path / "json.py").write_text("")
    with pytest.raises(UsageError, match=r"more\.py, line 1, imports json"):
        refuse_clashes(package, tmp_path)


def test_search_path_besides_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "only_here.py").write_text("")
    assert not is_elsewhere("only_here", tmp_path)
    assert is_elsewhere("statistics", tmp_path)
    assert is_elsewhere("sys", tmp_path)
    assert is_elsewhere("torch", tmp_path)
