"""Tests of the real image on a real engine.

Without an engine they are skipped with the reason; where TRTYARD_REQUIRE_DOCKER is 1, as in CI,
a missing engine fails them.
"""

import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from trtyard.matrix.reader import read_matrix
from trtyard.run.in_docker import engine_problem
from trtyard.run.selftest import REQUIRE_DOCKER
from trtyard.system.docker_engine import connect
from trtyard.system.uv import MATRIX_FILE, ROOT

ENVIRONMENT = {**os.environ, "COLUMNS": "100", "BUILDKIT_PROGRESS": "plain"}


@pytest.fixture(scope="session")
def engine():
    """Return a client of this machine's engine."""
    problem = engine_problem()
    if problem is not None:
        if os.environ.get(REQUIRE_DOCKER) == "1":
            pytest.fail(f"{REQUIRE_DOCKER} is 1, but: {problem}")
        pytest.skip(problem)
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def row():
    return read_matrix(MATRIX_FILE).row("default")


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """Return a copy of this working tree, so that nobody edits it while the tests run."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout
    folder = tmp_path_factory.mktemp("tree") / unused_name()
    for name in filter(None, names.decode().split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file() and not name.startswith(("docs/", "tests/")):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return folder


def unused_name():
    """Return a folder name that no build has used.

    BuildKit updates the context of an earlier build from a folder of the same name, and overlooks
    folders of which only the mode changed. What a build sees would depend on what ran before.
    """
    return f"trtyard-{uuid.uuid4().hex}"


def copy_of(tree, parent):
    """Return a copy of the tree in ``parent``, whose files may be edited."""
    return Path(shutil.copytree(tree, parent / unused_name()))


@pytest.fixture(scope="session")
def image(engine, row, tree):
    """Return the name of the row's image, built as a user would build it."""
    done = run_task("build", "--trt", row.name, root=tree)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def run_task(*words, root, **options):
    """Run a task line of a checkout to its end, as ``run`` does."""
    command = [sys.executable, "-I", str(root / "trtyard" / "__main__.py"), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        check=False,
        **options,
    )


@pytest.fixture
def out_folder(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder
