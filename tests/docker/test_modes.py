import os
import subprocess
import tarfile

import pytest
from conftest import copy_of

from trtyard.build.bake import DEFAULT_BUILDER, VARIABLES
from trtyard.build.build import plan_of
from trtyard.build.local_base import have_bases, make_bases
from trtyard.lock.file import read_lock
from trtyard.render.dockerfiles import CODE_PATH
from trtyard.system.docker_engine import docker_command
from trtyard.system.uv import LOCK_FILE


@pytest.fixture
def code_of(engine, row, tmp_path):
    """Return a function that builds the stage of a tree's pipeline: path to mode, time, content."""
    locked = read_lock(LOCK_FILE).row(row.name)
    if not have_bases(engine, row, locked):
        make_bases(row, locked)
    plan = plan_of(engine, row, locked, "local")

    def build(tree):
        file = tmp_path / "code.tar"
        output = f"type=tar,dest={file}"
        *words, target = plan.command(docker_command(), DEFAULT_BUILDER, output=output)
        words += ["--set", f"{target}.target=code", "--set", f"{target}.tags=", target]
        env = {**os.environ, **VARIABLES}
        subprocess.run(words, cwd=tree, env=env, check=True, capture_output=True)
        with tarfile.open(file) as tar:
            return {
                one.name: (one.mode, one.mtime, one.isdir() or tar.extractfile(one).read())
                for one in tar
                if one.name.startswith(f"out{CODE_PATH}/")
            }

    return build


@pytest.mark.parametrize(("taken", "given"), [(0o077, 0), (0, 0o2020)])
def test_image_does_not_depend_on_checkout_umask(code_of, tree, tmp_path, taken, given):
    usual = code_of(copy_of(tree, tmp_path))
    assert f"out{CODE_PATH}/trtyard/pipeline/cli.py" in usual
    assert {mode for mode, *_ in usual.values()} == {0o644, 0o755}
    checkout = copy_of(tree, tmp_path)
    for path in [*(checkout / "trtyard").rglob("*"), *(checkout / "images").rglob("*")]:
        path.chmod((path.stat().st_mode | given) & ~taken)
    assert code_of(checkout) == usual
