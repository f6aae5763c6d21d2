import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from trtyard.build.bake import Plan
from trtyard.build.local_base import local_bases
from trtyard.core.errors import IntegrityError
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.prove.layouts import FOLDER, Built, build_command, plain_command, with_own_bases
from trtyard.prove.oci import Difference, Image, differences
from trtyard.prove.reproduce import _in_bases, _report
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROW = read_matrix(MATRIX_FILE).row("default")
LOCKED = read_lock(LOCK_FILE).row(ROW.name)
PUBLISHED = Plan(
    row=ROW, locked=LOCKED, base="published", local=(), image=f"trtyard/{ROW.name}:0123"
)
LOCAL = replace(PUBLISHED, base="local", local=local_bases(ROW, LOCKED))


def command(plan, name):
    return [str(word) for word in build_command(Path("docker"), plan, name, f"run-{name}")]


@pytest.mark.parametrize("plan", [PUBLISHED, LOCAL])
def test_clean_build_uses_no_caches(plan):
    first, second = command(plan, "first"), command(plan, "second")
    for words, name in ((first, "first"), (second, "second")):
        assert "--no-cache" in words
        assert any(word.endswith(f".args.BUILDKIT_CACHE_MOUNT_NS=run-{name}") for word in words)
        assert words[-1] == command(PUBLISHED, "first")[-1]


def test_each_build_has_its_own_bases():
    usual = {base.image for base in LOCAL.local}
    own = [with_own_bases(LOCAL, name) for name in ("first", "second")]
    names = [{base.image for base in plan.local} for plan in own]
    assert len(usual | names[0] | names[1]) == 6
    for plan, expected in zip(own, names):
        settings = [word for word in command(plan, "first") if ".contexts." in word]
        assert {word.partition("docker-image://")[2] for word in settings} == expected
    assert with_own_bases(PUBLISHED, "first") == PUBLISHED


@pytest.fixture
def built(tmp_path):
    """Return a function that gives a build with one layer of a few bytes."""
    (tmp_path / "blobs/sha256").mkdir(parents=True)

    def make(name, digest="1" * 64, bases=("sha256:a", "sha256:b"), **labels):
        layer = f"sha256:{'0' * 64}"
        (tmp_path / "blobs/sha256" / ("0" * 64)).write_bytes(b"0" * 10)
        config = {"config": {"Labels": labels}, "rootfs": {"diff_ids": [layer]}}
        image = Image(folder=tmp_path, digest=f"sha256:{digest}", config=config, layers=(layer,))
        return Built(name=name, image=image, seconds=1.25, bases=bases)

    return make


def report(first, second, **options):
    found = [*_in_bases(first, second), *differences(first.image, second.image)]
    _report(LOCAL, first, second, found, **{"as_json": False, **options})


def test_equal_digests_are_both_printed(built, capsys):
    report(built("first"), built("second"))
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split() == [f"sha256:{'1' * 64}", "first"]
    assert second.split() == [f"sha256:{'1' * 64}", "second"]


def test_difference_exits_with_5_without_success_text(built, capsys):
    with pytest.raises(IntegrityError, match=r'Labels\.a: value "1" and "2"') as caught:
        report(built("first", a="1"), built("second", digest="2" * 64, a="2"))
    assert caught.value.exit_code == 5
    assert capsys.readouterr().out == ""


def test_long_difference_list_is_cut_with_a_count(built):
    labels = {f"l{number}": "1" for number in range(50)}
    with pytest.raises(IntegrityError) as caught:
        report(built("first"), built("second", digest="2" * 64, **labels))
    lines = caught.value.message.splitlines()
    assert len([line for line in lines if "Labels.l" in line]) == 40
    assert lines[-1].strip() == "and 10 more (--json prints all): 10 of value in config"


def test_different_times_do_not_hide_other_differences(built):
    def differing(path, attribute):
        return Difference(where="layer 2", path=path, attribute=attribute, first="1", second="2")

    found = [*(differing(f"/{number}", "mtime") for number in range(100)), differing("/z", "mode")]
    with pytest.raises(IntegrityError) as caught:
        _report(LOCAL, built("first"), built("second"), found, as_json=False)
    lines = caught.value.message.splitlines()
    assert lines[1].strip() == "layer 2: /z: mode 1 and 2"
    assert lines[-1].strip() == "and 61 more (--json prints all): 61 of mtime in layer 2"


def test_base_difference_fails_though_images_match(built):
    with pytest.raises(IntegrityError, match="build-base: image sha256:b and sha256:c"):
        report(built("first"), built("second", bases=("sha256:a", "sha256:c")))
    report(built("first"), built("trtyard/x:1", bases=()))  # one that was there has none


@pytest.mark.parametrize("same", [True, False])
def test_json_has_all_differences(built, capsys, same):
    second = built("second") if same else built("second", digest="2" * 64, a="2")
    if same:
        report(built("first"), second, as_json=True)
    else:
        with pytest.raises(IntegrityError):
            report(built("first"), second, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["row"] == ROW.name
    assert facts["same"] is same
    assert [one["config"] for one in facts["builds"]] == [f"sha256:{'1' * 64}", second.image.digest]
    assert [one["path"] for one in facts["differences"]] == ([] if same else ["config.Labels.a"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--trt rtxx", "rtx-1.7"),
        ("--target none", "final, runtime"),
        (
            "--store nowhere --base published",
            "--base published needs a registry",
        ),
    ],
)
def test_invalid_options_are_refused_before_a_build(tasks, words, said):
    done = tasks("reproduce", *shlex.split(words), env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert done.returncode == 2
    assert said in done.stderr


def test_row_with_unresolved_entries_is_refused(tasks):
    done = tasks("reproduce", "--trt", "7.0", env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert done.returncode == 3
    assert "unresolved entries in versions.lock" in done.stderr


def test_missing_docker_exits_with_3(tasks):
    done = tasks("reproduce", env={"DOCKER_HOST": "unix:///nonexistent.sock"})
    assert done.returncode == 3
    assert "no Docker engine answers" in done.stderr


def test_comma_in_the_layout_path_works():
    command = plain_command(Path("docker"), FOLDER / "context", FOLDER / "first")
    output = str(command[command.index("--output") + 1])
    assert output.endswith(",dest=.trtyard/reproduce/first")
