"""Builds from scratch on the real engine, of images of a few files on the row's own base."""

import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from types import SimpleNamespace

import pytest
from conftest import ENVIRONMENT, copy_of, run_task

from trtyard.build.build import content_labels, plan_of
from trtyard.build.local_base import have_bases, local_bases
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.inventory import BASE_FACTS
from trtyard.lock.file import read_lock
from trtyard.prove import layouts
from trtyard.prove.layouts import (
    Built,
    from_engine,
    from_nothing,
    layout_of,
    moved_on,
    plain_command,
    workplace,
)
from trtyard.prove.oci import differences
from trtyard.system.docker_engine import docker_command
from trtyard.system.folders import TAG_NAME
from trtyard.system.processes import output_of
from trtyard.system.uv import LOCK_FILE

STEADY = "RUN mkdir /made && echo text > /made/file && touch -d @1 /made /made/file"
PACKAGES = "--mount=type=cache,id=packages,target=/cache"


@pytest.fixture(scope="module")
def locked(row):
    return read_lock(LOCK_FILE).row(row.name)


@pytest.fixture(scope="module")
def base(engine, image, row, locked):
    """Return the name of what the row's image, which has been built, starts from."""
    here = have_bases(engine, row, locked)
    return local_bases(row, locked)[0].image if here else locked.base.reference


@pytest.fixture
def make(base, tmp_path):
    """Return a function that builds a Dockerfile's steps on the base, and reads the image."""

    def make(name, *steps):
        context = tmp_path / f"{name} context"
        context.mkdir()
        (context / "Dockerfile").write_text("\n".join([f"FROM {base}", *steps, ""]))
        folder = tmp_path / name
        command = plain_command(docker_command(), context, folder)
        *words, context = command
        return layout_of([*words, "--build-arg", "SOURCE_DATE_EPOCH=1", context], folder)

    return make


def told(first, second):
    return [str(one) for one in differences(first, second)]


def test_two_clean_builds_are_identical(make):
    first, second = make("first", STEADY), make("second", STEADY)
    assert first.digest == second.digest
    assert told(first, second) == []


def test_only_the_file_with_a_timestamp_is_named(make):
    steps = "RUN date +%N > /made-then && touch -d @1 /made-then"
    images = [make(name, STEADY, steps, STEADY.replace("made", "later")) for name in "ab"]
    lines = [line.partition(" sha256")[0] for line in told(*images)]
    assert lines == [f"layer {len(images[0].layers) - 1}: /made-then: content"]


def test_a_file_that_has_the_time_is_named(make):
    steps = [f"RUN touch -d @1 /file && touch -d @{number} /file" for number in (2, 3)]
    lines = told(*(make(name, step) for name, step in zip("ab", steps)))
    files = [line.partition(": ")[2] for line in lines if line.startswith("layer")]
    assert files == ["/file: mtime 2 and 3"]


def test_mode_owner_link_and_removal_differences_are_named(make):
    texts = [
        "chmod 600 f; chown 1:2 g; ln -s /f l; rm /etc/host.conf /etc/profile",
        "chmod 644 f; chown 2:2 g; ln -s /g l; rm /etc/profile",
    ]
    steps = [f"RUN cd /d && touch f g && {text}; touch -h -d @1 * . /etc" for text in texts]
    lines = told(*(make(name, "WORKDIR /d", step) for name, step in zip("ab", steps)))
    assert {line.partition(": ")[2] for line in lines if line.startswith("layer")} == {
        "/d/f: mode 0600 and 0644",
        "/d/g: owner 1:2 and 2:2",
        "/d/l: link /f and /g",
        "/etc/host.conf: only in the first (file removed)",
    }


def test_builds_do_not_share_package_caches(make):
    steps = f"RUN {PACKAGES} ls /cache > /seen; date > /cache/{uuid.uuid4()}; touch -d @1 /seen"
    assert told(make("first", steps), make("second", steps)) == []


@pytest.fixture
def place(monkeypatch, tmp_path, engine, row, locked):
    """Return a plan, with a folder of this test's own to build in."""
    monkeypatch.setattr(layouts, "YARD", tmp_path / "yard")
    monkeypatch.setattr(layouts, "FOLDER", tmp_path / "yard" / "reproduce")
    return plan_of(engine, row, locked, "published")


@pytest.fixture
def tiny(engine, base, tmp_path):
    """Return a function that makes an image in the engine; all are removed at the end."""
    names = []

    def tiny(*steps, labels=None):
        name = f"trtyard/test-{uuid.uuid4().hex}:tiny"
        context = tmp_path / name.replace("/", " ")
        context.mkdir()
        words = [f'LABEL "{key}"="{value}"' for key, value in (labels or {}).items()]
        (context / "Dockerfile").write_text("\n".join([f"FROM {base}", *steps, *words, ""]))
        build = ["build", "--quiet", "--builder", "default", "--provenance=false"]
        build += ["--output", f"type=image,name={name},compression=zstd"]
        build += ["--build-arg", "SOURCE_DATE_EPOCH=1"]
        output_of([docker_command(), "buildx", *build, context])
        names.append(name)
        return name

    yield tiny
    for name in names:
        engine.images.remove(name)


def test_local_image_is_compared_by_digest_then_by_file(engine, make, tiny, place):
    name = tiny(STEADY)
    same = Built(name="second", image=make("same", STEADY), seconds=1)
    other = replace(same, image=make("other", STEADY.replace("text", "TEXT")))
    with workplace(engine, place, builds=0, keep=False):
        assert from_engine(engine, docker_command(), name, same).image is same.image
        read = from_engine(engine, docker_command(), name, other)
        assert read.image.digest == same.image.digest
        (line,) = (line for line in told(read.image, other.image) if line.startswith("layer"))
        assert "/made/file: content" in line


def test_base_is_outdated_if_other_versions_changed(engine, tiny):
    def on(*versions):
        facts = shlex.quote(json.dumps({"other_versions": versions}))
        image = tiny(f"RUN mkdir -p {BASE_FACTS.parent} && echo {facts} > {BASE_FACTS}")
        return SimpleNamespace(local=(SimpleNamespace(image=image),))

    old = on(["bash", "5.1", "5.2"])
    assert not moved_on(engine, old, on(["bash", "5.1", "5.2"]))
    assert moved_on(engine, old, on(["bash", "5.1", "5.3"]))
    assert moved_on(engine, old, on())
    assert moved_on(engine, on(), old)
    missing = SimpleNamespace(local=(SimpleNamespace(image="trtyard/no-such-image:1"),))
    assert not moved_on(engine, missing, old)


def records(mark):
    """Return the ids of what the builder keeps of the steps with that word in them."""
    return {key for key, text in layouts._records(docker_command()).items() if mark in text}


def in_folder(folder=None):
    return sorted(file.name for file in (folder or layouts.FOLDER).iterdir())


@pytest.fixture
def built_instead(monkeypatch, base, tmp_path):
    """Return a function that lets a row's build be one of other steps; it gives mounts' names."""

    def built_instead(*steps):
        used = []
        context = tmp_path / "instead"
        context.mkdir()
        (context / "Dockerfile").write_text("\n".join([f"FROM {base}", *steps, ""]))

        def command(docker, plan, name, mounts):
            used.append(mounts)
            *words, context_word = plain_command(docker, context, layouts.FOLDER / name)
            return [*words, "--build-arg", f"BUILDKIT_CACHE_MOUNT_NS={mounts}", context_word]

        monkeypatch.setattr(layouts, "build_command", command)
        return used

    return built_instead


def test_only_the_builds_own_package_cache_is_removed(engine, make, place, built_instead):
    mark = uuid.uuid4().hex
    steps = f"RUN {PACKAGES} ls /cache > /seen; echo {mark} > /cache/x"
    make("another", steps)
    before = records(mark)
    assert before
    used = built_instead(steps)
    with workplace(engine, place, builds=0, keep=False):
        built = from_nothing(engine, docker_command(), place, "first")
        assert built.image.layer(built.image.layers[-1]).is_file()
    assert records(mark) == before
    assert len(used) == 1
    assert in_folder() == [TAG_NAME]


def test_a_build_that_fails_leaves_nothing(engine, place, built_instead):
    mark = uuid.uuid4().hex
    built_instead(f"RUN {PACKAGES} touch /cache/{mark}", "RUN exit 5")
    with (
        pytest.raises(IntegrityError, match=r"a file does not match its hash in versions\.lock"),
        workplace(engine, place, builds=0, keep=False),
    ):
        from_nothing(engine, docker_command(), place, "first")
    assert records(mark) == set()
    assert in_folder() == [TAG_NAME]


def test_kept_images_last_until_the_next_run(engine, place, built_instead):
    built_instead("RUN true")
    with workplace(engine, place, builds=0, keep=True):
        from_nothing(engine, docker_command(), place, "first")
    assert in_folder() == [TAG_NAME, "first"]
    with workplace(engine, place, builds=0, keep=True):
        assert in_folder() == [TAG_NAME]


def test_full_disk_is_reported_before_building(engine, place):
    with (
        pytest.raises(
            EnvironmentLacksError, match=r"not enough disk space: .* about \d+ GB and has \d+ GB"
        ),
        workplace(engine, place, builds=100_000, keep=False),
    ):
        pytest.fail("it went on")


@pytest.fixture
def checkout(tree, tmp_path):
    """Return a copy of the tree, whose folder for the layouts is nobody else's."""
    return copy_of(tree, tmp_path)


def test_interrupt_cleans_up_and_exits_with_130(engine, checkout):
    command = [sys.executable, "-I", str(checkout / "trtyard" / "__main__.py"), "reproduce"]
    command += ["--target", "runtime"]  # the other wants more disk than there may be
    options = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    with subprocess.Popen(command, **options, text=True, start_new_session=True) as process:
        said = []
        for line in process.stderr:
            said.append(line)
            if "from this machine's apt sources" in line or line.startswith("#1 "):
                break
        assert process.poll() is None, "".join(said)
        time.sleep(2)  # into the work itself
        os.killpg(process.pid, signal.SIGINT)
        said.append(process.stderr.read())
    said = "".join(said)
    assert process.returncode == 130, said
    assert in_folder(checkout / ".trtyard/reproduce") == [TAG_NAME]
    # Its bases are called by the checkout's folder.
    own = f"-{hashlib.sha256(str(checkout).encode()).hexdigest()[:6]}-"
    assert own in said or "from this machine's apt sources" not in said
    tags = (tag for one in engine.api.images() for tag in one["RepoTags"] or ())
    assert [tag for tag in tags if own in tag] == []


def test_image_of_another_tree_is_refused(engine, row, locked, image, tiny, tree):
    def against(name):
        done = run_task("reproduce", "--dry-run", "--against", name, root=tree)
        return done.returncode, done.stderr

    code, said = against("trtyard/no-such-image:0123")
    assert (code, "image not found" in said) == (2, True)
    labels = content_labels(row, locked)
    code, said = against(tiny("RUN true", labels={**labels, "trtyard.content": "0123"}))
    assert (code, "not the image that this checkout builds" in said) == (5, True)
    title = "trtyard rtx-1.7 runtime"
    code, said = against(
        tiny("RUN true", labels={**labels, "org.opencontainers.image.title": title})
    )
    assert (code, "give its stage: --target" in said) == (2, True)
    code, said = against(image)
    assert code == 0, said
