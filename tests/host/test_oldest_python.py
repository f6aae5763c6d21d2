"""The pipeline goes into every image, so it has to import on the oldest row's Python 3.6."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("core", "ops", "pipeline")  # what runs inside a row
OLD_ENOUGH = ((3, 6), (3, 7))


def interpreters():
    named = [shutil.which(f"python{major}.{minor}") for major, minor in OLD_ENOUGH]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return [path for path in named if path] + sorted(map(str, pyenv.glob("3.[67].*/bin/python")))


def runs_old_python(path):
    script = "import sys; print(sys.version_info[0], sys.version_info[1])"
    found = subprocess.run([path, "-c", script], capture_output=True, text=True)
    return found.returncode == 0 and tuple(map(int, found.stdout.split())) in OLD_ENOUGH


@pytest.fixture(scope="module")
def old_python():
    for path in interpreters():
        if runs_old_python(path):
            return path
    pytest.skip("no Python 3.6 or 3.7 on this machine")


def sources():
    return sorted(file for one in PACKAGES for file in (ROOT / "trtyard" / one).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_at_the_top(path):
    """Return the modules that importing ``path`` imports, without those under TYPE_CHECKING."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Try):
            found += [name for inner in node.body for name in names_of(inner)]
        found += names_of(node)
    return found


def names_of(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def packages_around(name):
    """Return the packages that importing ``name`` runs first."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def modules_of_the_standard_library_alone():
    """Return the pipeline's modules that need no package, nor does anything they import."""
    tops = {module_name(path): imports_at_the_top(path) for path in sources()}
    for module, names in tops.items():
        names += packages_around(module)
        names += [package for name in names for package in packages_around(name)]
    outside = {
        module
        for module, names in tops.items()
        if any(name.split(".")[0] not in {*sys.stdlib_module_names, "trtyard"} for name in names)
    }
    grown = True
    while grown:
        more = {module for module, names in tops.items() if outside.intersection(names)} - outside
        outside |= more
        grown = bool(more)
    return sorted(set(tops) - outside)


def test_the_pipeline_imports_nothing_from_the_rest_of_trtyard():
    wrong = [
        (path.name, name)
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in names_of(node)
        if name.startswith("trtyard.") and name.split(".")[1] not in PACKAGES
    ]
    assert wrong == []


def test_every_file_compiles_on_the_oldest_python(old_python):
    script = (
        "import sys; [compile(open(f, encoding='utf-8').read(), f, 'exec') for f in sys.argv[1:]]"
    )
    found = subprocess.run(
        [old_python, "-c", script, *map(str, sources())], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_standard_library_modules_import_on_python_3_6(old_python):
    modules = modules_of_the_standard_library_alone()
    assert "trtyard.pipeline.cli" in modules
    assert "trtyard.core.errors" in modules
    script = "import sys, importlib; [importlib.import_module(m) for m in sys.argv[1:]]"
    found = subprocess.run(
        [old_python, "-W", "error", "-c", script, *modules],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert found.returncode == 0, found.stderr
