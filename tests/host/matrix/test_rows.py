"""``./run row`` as a user types it, in a copy of this checkout, with a package index on loopback.

The index has a tiny wheel of every package that the rows pin; uv, lock and rendering are the real
ones. No apt is asked: a row like another takes that one's distribution packages.
"""

import ctypes
import hashlib
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
from loopback_index import served, variables
from tiny_wheels import make_sdist, make_wheel

from trtyard.lock.file import read_lock
from trtyard.lock.resolve import _vendor_wheels
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import MATRIX_FILE, ROOT

MATRIX = read_matrix(MATRIX_FILE)
LIKE = MATRIX.row("10.16")
# Some of what PyPI has, and a release to come.
PUBLISHED = {
    "tensorrt-cu11": "10.12.0.36",
    "tensorrt-cu12": "10.12.0.36 10.13.0.35 10.13.2.6 10.13.3.9.post1 10.16.1.11 11.0.0.114",
    "tensorrt-cu13": "10.13.2.6 10.13.3.9 10.13.3.9.post1 10.14.1.48.post1 10.16.1.11 11.0.0.114"
    " 99.1.0.5",
    "tensorrt-rtx-cu12": "1.7.1.116",
    "tensorrt-rtx-cu13": "1.6.1.120 1.7.1.116",
}
BEFORE_13 = "tensorrt-cu11-bindings, tensorrt-cu12-bindings"
LIBRARY = "tensorrt_cu13_libs-10.13.3.9.post1-py3-none-manylinux_2_28_x86_64.whl"
LIBRARIES = "10.13.2.6 10.13.3.9.post1"  # the vendor's own index has these, where it is set up
UNTOUCHED = ("versions.toml", "versions.lock", "images")
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Return a folder with what the index serves, and one with what the vendor's index has."""
    folder, vendor = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("vendor")
    for row in MATRIX.rows.values():
        if row.parser != "stock":
            continue
        for python in row.pythons:
            for name, version in {**row.packages_for(python), **row.gpu}.items():
                if not name.startswith("tensorrt"):
                    make_wheel(folder, name, version)
        # What pycuda and torch bring, as far as an image names it.
        named = {*row.image.compile_with, *row.image.leave_out, *row.image.runtime}
        others = sorted(named - {*row.packages, *row.vendor_packages})
        for name in others:
            make_wheel(folder, name, "1.0")
        for name, version in row.sources.items():
            make_sdist(folder, name, version, requires=others)
    for project, releases in PUBLISHED.items():
        for release in releases.split():
            for minor in range(8, 14 if release.startswith("10") else 15):
                tag = f"cp3{minor}-none-manylinux_2_28_x86_64"
                make_wheel(folder, f"{project}-bindings", release, tag=tag)
            if "rtx" in project:
                make_wheel(folder, f"{project}-libs", release)
    for release in LIBRARIES.split():
        tag = "py3-none-manylinux_2_28_x86_64"
        make_wheel(vendor, "tensorrt-cu13-libs", release, tag=tag)
        make_sdist(folder, "tensorrt-cu13-libs", release)  # a stub of it, as on PyPI
    make_wheel(folder, "torch", "2.12.1")
    make_wheel(folder, "torchvision", "0.27.1")
    return folder, vendor


@pytest.fixture
def index(packages):
    with served(packages[0]) as index:
        yield index


@pytest.fixture
def vendor(packages):
    with served(packages[1]) as index:
        yield index


@pytest.fixture
def row(tasks, checkout, index, tmp_path):
    """Return a function that runs ``./run row`` with these words."""

    def call(*words, **options):
        env = variables(index, tmp_path, options.pop("vendor", None)) | options.pop("env", {})
        return tasks("row", *words, root=checkout, env=env, **options)

    return call


def content(checkout):
    """Return every file that adding a row may touch, and every folder of images/."""
    files = [checkout / name for name in UNTOUCHED[:2]]
    files += sorted((checkout / "images").rglob("*"))
    return {one: one.read_bytes() if one.is_file() else None for one in files}


def test_a_row_is_written_resolved_and_rendered(row, tasks, checkout):
    before = (checkout / "versions.toml").read_text()
    done = row("add", "10.13", "--like", "10.16")
    assert done.returncode == 0, done.stderr
    after = read_matrix(checkout / "versions.toml")
    assert set(after.rows) == {*MATRIX.rows, "10.13"}
    new = after.rows["10.13"]
    assert (new.tensorrt, new.python, new.cuda) == ("10.13.3.9", LIKE.python, LIKE.cuda)
    assert new.packages == {**LIKE.packages, "tensorrt-cu13-bindings": "10.13.3.9.post1"}
    assert new.vendor_packages == {"tensorrt-cu13-libs": "10.13.3.9.post1"}
    assert new.runs_on == tuple(one for one in LIKE.runs_on if one != "12.1")
    assert "without GPUs of compute capability 12.1" in done.stdout
    locked = read_lock(checkout / "versions.lock")
    assert locked.rows["10.13"].debs == locked.rows["10.16"].debs
    assert locked.rows["10.13"].base == locked.rows["10.16"].base
    dockerfile = (checkout / "images" / "10.13" / "Dockerfile").read_text()
    assert "10.13" in dockerfile
    assert tasks("lock", "--check", root=checkout).returncode == 0
    assert tasks("render", "--check", root=checkout).returncode == 0
    # Every line there was is there, in its order, and the new block is one piece.
    text = (checkout / "versions.toml").read_text()
    start = text.index("# --- TensorRT 10.13, made by: ./run row add 10.13 --like 10.16\n")
    end = text.index("\n# ---", start) + 1
    assert text[:start] + text[end:] == before


def test_other_rows_keep_their_exact_lock(row, checkout):
    before = read_lock(checkout / "versions.lock").rows
    assert row("add", "10.13", "--like", "10.16").returncode == 0
    after = dict(read_lock(checkout / "versions.lock").rows)
    assert set(after) - set(before) == {"10.13"}
    del after["10.13"]
    assert after == before


@pytest.mark.parametrize("stub", [True, False])
def test_unavailable_library_is_unresolved_and_named(row, checkout, index, stub):
    index.missing = None if stub else "tensorrt-cu13-libs"
    done = row("add", "10.13", "--like", "10.16")
    assert done.returncode == 0, done.stderr
    (one,) = read_lock(checkout / "versions.lock").rows["10.13"].unresolved
    assert (one.kind, one.name, one.version) == ("wheel", "tensorrt-cu13-libs", "10.13.3.9.post1")
    assert "unresolved: wheel tensorrt-cu13-libs 10.13.3.9.post1: no reachable index" in done.stdout
    assert "machine that can reach pypi.nvidia.com: ./run lock --upgrade 10.13" in done.stdout
    assert f"or with {LIBRARY} in a folder: UV_FIND_LINKS=" in done.stdout


@pytest.mark.parametrize("place", ["the vendor's, a page", "the vendor's, JSON", "an extra index"])
def test_a_library_on_the_vendors_index_is_locked(row, checkout, vendor, place):
    vendor.html = "page" in place
    if place == "an extra index":
        done = row("add", "10.13", "--like", "10.16", env={"UV_INDEX": vendor.address})
    else:
        done = row("add", "10.13", "--like", "10.16", vendor=vendor)
    assert done.returncode == 0, done.stderr
    locked = read_lock(checkout / "versions.lock").rows["10.13"]
    assert locked.unresolved == ()
    (wheel,) = [one for one in locked.wheels if one.name == "tensorrt-cu13-libs"]
    content = (vendor.folder / LIBRARY).read_bytes()
    assert (wheel.filename, wheel.source) == (LIBRARY, "vendor")
    assert wheel.sha256 == hashlib.sha256(content).hexdigest()


def test_library_in_find_links_is_locked(index, vendor, tmp_path, monkeypatch):
    folder = tmp_path / "by hand"
    folder.mkdir()
    (folder / LIBRARY).write_bytes((vendor.folder / LIBRARY).read_bytes())
    for name, value in variables(index, tmp_path).items():
        monkeypatch.setenv(name, value)
    pins = {"tensorrt-cu13-libs": "10.13.3.9.post1"}
    wanted = replace(LIKE, vendor_packages=pins, public_pins={})
    assert _vendor_wheels(wanted)[0] == []
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    (wheel,), unresolved = _vendor_wheels(wanted)
    assert unresolved == ()
    assert (wheel.filename, wheel.source) == (LIBRARY, "vendor")
    assert wheel.sha256 == hashlib.sha256((folder / LIBRARY).read_bytes()).hexdigest()


def test_full_version_selects_that_release(row, checkout):
    done = row("add", "10.13.2.6", "--like", "10.16")
    assert done.returncode == 0, done.stderr
    assert read_matrix(checkout / "versions.toml").rows["10.13"].tensorrt == "10.13.2.6"


def test_torch_and_opset_can_be_chosen(row, checkout):
    done = row("add", "10.14", "--like", "10.16", "--torch", "2.12", "--opset", "20")
    assert done.returncode == 0, done.stderr
    new = read_matrix(checkout / "versions.toml").rows["10.14"]
    assert (new.packages["torch"], new.packages["torchvision"]) == ("2.12.1", "0.27.1")
    assert new.opset == 20
    note = "made by: ./run row add 10.14 --like 10.16 --torch 2.12 --opset 20\n"
    assert note in (checkout / "versions.toml").read_text()


def test_nearest_release_is_the_default_template(row, checkout):
    done = row("add", "11.0")
    assert done.returncode == 0, done.stderr
    (like,) = [name for name in MATRIX.rows if name.startswith("11.")]
    assert f"11.0: like {like}, with TensorRT 11.0.0.114 for CUDA 13.0" in done.stdout
    new = read_matrix(checkout / "versions.toml").rows["11.0"]
    assert new.packages["torch"] == MATRIX.rows[like].packages["torch"]


def test_removed_row_leaves_no_trace(row, checkout):
    before = content(checkout)
    assert row("add", "10.13", "--like", "10.16").returncode == 0
    assert row("add", "11.0").returncode == 0
    assert content(checkout) != before
    for name in ("10.13", "11.0"):
        done = row("remove", name)
        assert done.returncode == 0, done.stderr
    assert content(checkout) == before


REFUSED = {
    "no such release": (["add", "10.99"], ["no TensorRT 10.99", "nearest are 10.16 and 11.0"]),
    "the wrong flavour": (["add", "1.6"], ["no TensorRT 1.6; did you mean rtx-1.6?"]),
    "no such build": (["add", "10.13.9"], ["nearest are 10.13.3.9 and 10.14.1.48"]),
    "a slash": (["add", "10/13"], ["'10/13' is not a TensorRT release such as 10.13 or rtx-1.7"]),
    "a path": (["add", "../10.13"], ["'../10.13' is not a TensorRT release"]),
    "spaces": (["add", "10.13 "], ["'10.13 ' is not a TensorRT release"]),
    "one number": (["add", "10"], ["'10' is not a TensorRT release"]),
    "nothing": (["add"], ["row add needs RELEASE", "./run row add --help"]),
    "a row there is": (["add", "10.16"], ["already has row 10.16", "./run row remove 10.16"]),
    "a build of a row": (["add", "10.16.0.72"], ["already has row 10.16"]),
    "unknown --like": (["add", "10.13", "--like", "10.17"], ["no row '10.17'", "'10.16'"]),
    "other flavour": (
        ["add", "rtx-1.6", "--like", "10.16"],
        ["rtx-1.6 is TensorRT for RTX, but row 10.16 is full TensorRT"],
    ),
    "a vendor's base": (
        ["add", "10.13", "--like", "7.0"],
        ["like 7.0, which has TensorRT from base-image"],
    ),
    "a patched parser": (["add", "10.13", "--like", "8.6"], ["cannot be like 8.6"]),
    "no build for CUDA": (
        ["add", "10.12", "--like", "10.16"],
        [f"TensorRT 10.12 has no build for CUDA 13.0, only {BEFORE_13}"],
    ),
    "no wheel for Python": (
        ["add", "10.13", "--like", "10.16", "--python", "3.14"],
        ["TensorRT 10.13.3.9.post1 has no wheel for Python 3.14, only for 3.8, 3.9"],
    ),
    "Python of another suite": (
        ["add", "10.13", "--like", "10.16", "--python", "3.10"],
        ["cannot be like 10.16: python is 3.10"],
    ),
    "facts missing": (
        ["add", "99.1", "--like", "10.16"],
        ["tensorrt is 99.1.0.5, which is unknown", "TENSORRT in trtyard/matrix/compat"],
    ),
    "a release that takes no plugins": (
        ["add", "rtx-1.6"],
        ["plugin-shells has python-v3, which TensorRT for RTX 1.6.1.120 does not support"],
    ),
    "no such torch": (["add", "10.13", "--torch", "2.99"], ["no torch 2.99", "nearest are 2.13.0"]),
    "torch as words": (["add", "10.13", "--torch", ">=2"], ["--torch must be a release"]),
    "CUDA that torch lacks": (["add", "10.13", "--cuda", "12.9"], ["cuda is 12.9, but torch 2.12"]),
    "opset too old": (
        ["add", "10.13", "--opset", "9"],
        ["opset is 9; the dynamo exporter writes 18 to"],
    ),
    "no opset": (["add", "10.13", "--opset", "0"], ["opset is 0; the dynamo exporter"]),
    "opset as words": (["add", "10.13", "--opset", "new"], ["--opset must be a whole number"]),
    "removal of an alias": (["remove", "rtx"], ["alias of row rtx-1.7"]),
    "removal of the default": (["remove", "rtx-1.7"], ["is the default row"]),
    "removal of nothing": (["remove", "10.17"], ["no row '10.17'"]),
    "unknown word": (["ad"], ["'row add'"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_usage_exits_with_2_and_changes_nothing(row, checkout, name):
    words, said = REFUSED[name]
    before = content(checkout)
    done = row(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("trtyard: ")
    for one in said:
        assert one in done.stderr
    assert "Traceback" not in done.stderr
    assert content(checkout) == before


def test_no_network_exits_with_3_and_changes_nothing(row, checkout):
    before = content(checkout)
    nobody = "http://127.0.0.1:9/simple"
    done = row("add", "10.13", "--like", "10.16", env={"UV_DEFAULT_INDEX": nobody})
    assert done.returncode == 3, done.stderr
    assert "the package index 127.0.0.1 does not answer" in done.stderr
    assert content(checkout) == before


def test_a_package_that_cannot_be_resolved_changes_nothing(row, checkout, index):
    before = content(checkout)
    index.missing = "onnx"
    done = row("add", "10.13", "--like", "10.16")
    assert done.returncode == 2, done.stderr
    assert "row 10.13 cannot be resolved" in done.stderr
    assert content(checkout) == before


@pytest.mark.parametrize("words", [["add", "10.13"], ["remove", "10.16"], ["list"]])
def test_missing_matrix_is_reported(row, checkout, words):
    (checkout / "versions.toml").unlink()
    done = row(*words)
    assert done.returncode == 2, done.stderr
    assert "versions.toml is missing" in done.stderr


def test_outdated_lock_is_refused_first(row, checkout):
    file = checkout / "versions.toml"
    file.write_text(file.read_text().replace("opset = 18", "opset = 19", 1))
    done = row("add", "10.13", "--like", "10.16")
    assert done.returncode == 5, done.stderr
    assert "./run lock" in done.stderr


def test_failed_write_changes_no_file(row, checkout):
    (checkout / "images" / "10.13").write_text("a file in the row's place")
    before = content(checkout)
    done = row("add", "10.13", "--like", "10.16")
    assert done.returncode == 2, done.stderr
    assert "10.13" in done.stderr
    assert "Traceback" not in done.stderr
    assert content(checkout) == before


def without_override():
    """Let permissions count for root too: it runs this without the capabilities to pass them by."""
    if os.geteuid() == 0:
        for one in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, one, 0, 0, 0) == 0


def test_read_only_checkout_exits_with_3_before_fetching(row, checkout, index):
    (checkout / "images").chmod(0o555)
    try:
        done = row("add", "10.13", "--like", "10.16", preexec_fn=without_override)
    finally:
        (checkout / "images").chmod(0o755)
    assert done.returncode == 3, done.stderr
    assert f"no permission to write to {checkout / 'images'}" in done.stderr
    assert not index.logins


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_changes_nothing(checkout, index, tmp_path, number):
    before = content(checkout)
    index.holds_back = "onnx"  # which uv asks for in the middle of resolving
    command = [sys.executable, "-I", str(checkout / "trtyard" / "__main__.py")]
    child = subprocess.Popen(
        [*command, "row", "add", "10.13", "--like", "10.16"],
        env={**os.environ, **variables(index, tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert index.reached.wait(60)
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert child.returncode == (130 if number == signal.SIGINT else 143), said
    assert "Traceback" not in said
    assert content(checkout) == before


def test_concurrent_matrix_change_is_not_overwritten(checkout, index, tmp_path):
    index.holds_back = "onnx"
    command = [sys.executable, "-I", str(checkout / "trtyard" / "__main__.py")]
    child = subprocess.Popen(
        [*command, "row", "add", "10.13", "--like", "10.16"],
        env={**os.environ, **variables(index, tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert index.reached.wait(60)
    file = checkout / "versions.toml"
    file.write_text(file.read_text() + "# a comment\n")
    before = content(checkout)
    index.go_on.set()
    _, said = child.communicate(timeout=120)
    assert child.returncode == 3, said
    assert "changed in the meantime" in said
    assert content(checkout) == before


def test_the_rows_are_listed(row):
    done = row("list")
    assert done.returncode == 0
    assert re.search(r"^10\.16 +10\.16\.1\.11 +13\.0 ", done.stdout, re.MULTILINE)


def test_available_releases_are_listed_with_their_command(row):
    done = row("list", "--available")
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.splitlines()}
    assert lines["10.16"] == "10.16.1.11 12, 13 3.8 to 3.13 a row"
    assert lines["10.13"] == ("10.13.3.9.post1 12, 13 3.8 to 3.13 ./run row add 10.13 --like 10.16")
    assert lines["10.12"].endswith(f"has no build for CUDA 13.0, only {BEFORE_13}")
    assert "TENSORRT in trtyard/matrix/compatibility.py" in lines["99.1"]
    assert lines["rtx-1.6"].endswith("which TensorRT for RTX 1.6.1.120 does not support")


def test_every_listed_command_is_valid(row, checkout):
    offered = re.findall(r"\./run row (.*)$", row("list", "--available").stdout, re.MULTILINE)
    assert len(offered) >= 3
    for words in offered:
        done = row(*words.split())
        assert done.returncode == 0, done.stderr


def test_rows_add_help_shows_its_options(row):
    for option in ("--help", "-h"):
        done = row("add", option)
        assert done.returncode == 0, done.stderr
        for name in ("like", "torch", "python", "cuda", "opset"):
            assert f"--{name}" in done.stdout


def examples():
    """Yield each command of the page's walk-through, and the lines that the page shows of it."""
    text = (ROOT / "docs" / "matrix.md").read_text().partition("\n## Add a row\n")[2]
    for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE):
        for piece in re.split(r"^    \$ \./run ", block, flags=re.MULTILINE)[1:]:
            command, *shown = piece.splitlines()
            yield command.split(), shown


def test_documented_walkthrough_works(row, tasks, checkout, index, tmp_path):
    commands = []
    for words, shown in examples():
        commands.append(" ".join(words[:2]))
        if words[0] == "row":
            done = row(*words[1:])
        else:
            options = ["--dry-run"] if words[0] == "convert" else []
            done = tasks(*words, *options, root=checkout, env=variables(index, tmp_path))
        assert done.returncode == 0, done.stderr
        printed = {" ".join(line.split()) for line in done.stdout.splitlines()}
        assert {" ".join(line.split()) for line in shown} <= printed
    assert commands == [
        "row list",
        "row add",
        "lock --check",
        "render --check",
        "row list",
        "convert --trt",
    ]
