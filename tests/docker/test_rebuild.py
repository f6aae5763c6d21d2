import re
import uuid
from pathlib import Path

import pytest
from conftest import copy_of, run_task
from test_image import in_container

from trtyard.render.dockerfiles import CODE_PATH

PIPELINE_FILE = Path("trtyard/pipeline/artifacts.py")


def executed(log):
    """Return the stages whose own steps ran, out of a build's plain progress."""
    steps = {}
    for number, name in re.findall(r"^#(\d+) \[(\S+) +\d+/\d+\] (?!FROM)", log, flags=re.MULTILINE):
        steps[number] = name
    cached = set(re.findall(r"^#(\d+) CACHED$", log, flags=re.MULTILINE))
    return {name for number, name in steps.items() if number not in cached}, set(steps.values())


def test_the_log_is_read_right():
    log = "#1 [env 1/2] FROM x\n#2 [env 2/2] RUN a\n#2 CACHED\n#3 [code 1/1] COPY b\n#3 DONE 0.1s\n"
    assert executed(log) == ({"code"}, {"env", "code"})


@pytest.fixture(scope="module")
def rebuilt(engine):
    """Return a function that builds a checkout and gives the stages whose steps were not cached."""
    images = []

    def build(checkout):
        done = run_task("build", root=checkout)
        assert done.returncode == 0, done.stderr
        images.append(done.stdout.strip())
        ran, all_stages = executed(done.stderr)
        assert {"env", "compiler", "built", "plugins", "code", "final"} <= all_stages
        return ran

    yield build
    for name in images:
        engine.images.remove(name)


@pytest.fixture(scope="module")
def warm(rebuilt, image, tree, tmp_path_factory):
    """Return a tree that was just built: the image may be older than the builder's cache."""
    folder = copy_of(tree, tmp_path_factory.mktemp("warm"))
    edit(folder / PIPELINE_FILE, "#")
    rebuilt(folder)
    return folder


@pytest.fixture
def checkout(warm, tmp_path):
    """Return a copy of the tree whose files may be edited."""
    return copy_of(warm, tmp_path)


def edit(file, comment_sign):
    # Unlike any edit of an earlier run, which the builder may still have in its cache.
    file.write_text(f"{file.read_text()}\n{comment_sign} {uuid.uuid4()}\n")


def test_editing_the_pipeline_rebuilds_only_its_layer(rebuilt, checkout):
    edit(checkout / PIPELINE_FILE, "#")
    ran = rebuilt(checkout)
    assert "code" in ran
    assert ran <= {"code", "final"}


def test_empty_folder_stays_out_of_the_image(engine, rebuilt, checkout):
    edit(checkout / PIPELINE_FILE, "#")
    (checkout / PIPELINE_FILE.parent / "gone" / "__pycache__").mkdir(parents=True)
    rebuilt(checkout)
    name = run_task("build", root=checkout).stdout.strip()
    listed = in_container(engine, name, "ls", f"{CODE_PATH}/trtyard/pipeline").split()
    assert "ops" in listed
    assert "gone" not in listed


def test_editing_a_kernel_rebuilds_only_the_plugins(rebuilt, checkout):
    edit(next((checkout / "plugins").glob("*/*.cu")), "//")
    ran = rebuilt(checkout)
    assert "plugins" in ran
    assert ran <= {"plugins", "final"}
