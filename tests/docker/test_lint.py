"""BuildKit's own checks of every row's Dockerfile, without pulling what it starts from."""

import re
import subprocess

import pytest

from trtyard.matrix.reader import read_matrix
from trtyard.render.dockerfiles import IMAGES
from trtyard.system.docker_engine import docker_command
from trtyard.system.uv import MATRIX_FILE, ROOT

ROWS = read_matrix(MATRIX_FILE).rows


def lint(text):
    command = [docker_command(), "build", "--check", "--file", "-", ROOT / "plugins"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ROWS)
def test_the_dockerfile_passes_the_builders_own_checks(engine, name):
    text = (ROOT / IMAGES / name / "Dockerfile").read_text()
    text = re.sub(r"^FROM \S+@sha256:[0-9a-f]{64} ", "FROM scratch ", text, flags=re.MULTILINE)
    code, said = lint(text)
    assert code == 0, said
    assert "no warnings found" in said


def test_lint_finds_each_kind_of_error(engine):
    code, said = lint("FROM scratch AS base\nCOPY --from=nothing /a /b\nENV a b\nfrom base\n")
    assert code != 0, said
