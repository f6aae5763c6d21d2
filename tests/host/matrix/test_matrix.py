import pytest

from trtyard.core.errors import UsageError
from trtyard.matrix import compatibility
from trtyard.matrix.reader import read_matrix
from trtyard.system.uv import MATRIX_FILE


@pytest.fixture
def edited(tmp_path):
    """Return a function that reads the real matrix with one text put in another's place."""

    def edit(old, new):
        text = MATRIX_FILE.read_text()
        assert old in text
        file = tmp_path / "versions.toml"
        file.write_text(text.replace(old, new, 1))
        return read_matrix(file)

    return edit


def test_committed_matrix_is_valid_with_a_default():
    matrix = read_matrix(MATRIX_FILE)
    assert matrix.row("default") is matrix.rows[matrix.default]
    assert matrix.row("rtx").tensorrt == "1.7.1.116"


def test_alias_selects_the_newest_matching_row(tmp_path, monkeypatch):
    text = MATRIX_FILE.read_text()
    start, end = text.index('[rows."8.6"]'), text.index("# --- TensorRT 7.0")
    row = text[start:end]
    later = row.replace('rows."8.6"', 'rows."8.10"').replace("8.6.1", "8.10.0")
    file = tmp_path / "versions.toml"
    file.write_text(text[:start] + later + row)
    known = compatibility.TENSORRT["full", (8, 6)]
    monkeypatch.setitem(compatibility.TENSORRT, ("full", (8, 10)), known)
    matrix = read_matrix(file)
    assert matrix.aliases()["8"] == "8.10"
    assert matrix.row("8.6").tensorrt == "8.6.1.6"


def test_an_unknown_row_is_a_usage_error_with_the_nearest_names():
    with pytest.raises(UsageError) as caught:
        read_matrix(MATRIX_FILE).row("rtx-1.8")
    assert "'rtx-1.8'" in caught.value.message
    assert "did you mean 'rtx-1.7'" in caught.value.message
    assert "./run matrix" in caught.value.hint
    assert caught.value.exit_code == 2


WRONG = {
    "unknown key": ('flavour = "rtx"', 'flavor = "rtx"', ["flavour", "is missing"]),
    "unknown extra key": ("opset = 18", "opset = 18\nopsett = 1", ["opsett", "'opset'"]),
    "wrong type": ("opset = 18", 'opset = "18"', ["opset", "whole number", "'18'"]),
    "true is no number": ("opset = 18", "opset = true", ["opset", "whole number"]),
    "out of range": ("opset = 18", "opset = 180", ["opset", "from 7 to 99"]),
    "no such flavour": ('flavour = "rtx"', 'flavour = "rtz"', ["flavour", "rtx, full"]),
    "flavour against name": ('flavour = "rtx"', 'flavour = "full"', ["flavour", "rtx-1.7"]),
    "release against name": ('tensorrt = "1.7.1.116"', 'tensorrt = "1.8.0.1"', ["tensorrt"]),
    "package against release": (
        'libs = "1.7.1.116"',
        'libs = "1.7.1.117"',
        ["packages", "1.7.1.116"],
    ),
    "range instead of a version": ('torch = "2.13.0"', 'torch = ">=2.13"', ["packages.torch"]),
    "package spelt otherwise": (
        'onnxruntime = "1.32.0"',
        'onnxruntime = "1.32.0"\nOnnx_IR = "1.1.0"',
        ["Onnx_IR", "lower case"],
    ),
    "without torch": ('torch = "2.13.0"\n', "", ["packages", "torch"]),
    "tag latest": ("debian:bookworm-slim", "debian:latest", ["base.image", "latest"]),
    "image without tag": ("debian:bookworm-slim", "debian", ["base.image", "tag"]),
    "short digest": ("sha256:7b14", "sha256:", ["base.digest", "64 hex"]),
    "list with a duplicate": ('["80", "86"', '["80", "80"', ["architectures", "duplicate"]),
    "empty list": ('["80", "86", "89", "120"]', "[]", ["architectures"]),
    "no such executor": ('["docker", "host"]', '["docker", "hots"]', ["executors", "hots"]),
    "base from nowhere": (
        'contents = "minimal"',
        'contents = "empty"',
        ["base.contents", "vendor"],
    ),
    "TensorRT that the vendor's packages lack": (
        'cu13-libs = "11.3.0.99"',
        'cu13-libs = "11.3.0.98"',
        ["vendor-packages", "11.3.0.99"],
    ),
    "debs of another TensorRT": (
        'tensorrt-from = "base-image"',
        'tensorrt-from = "vendor-debs"',
        ["vendor-debs"],
    ),
    "wheel of another TensorRT": (
        'tensorrt-libs = "8.6.1"',
        'tensorrt-libs = "8.6.0"',
        ["vendor-packages", "8.6.1.6"],
    ),
    "a pin of another release": (
        'public-pins."tensorrt_libs-8.6.1-',
        'public-pins."tensorrt_libs-8.5.3-',
        ["public-pins", "8.5.3"],
    ),
    "a pin of what is no wheel": (
        'public-pins."tensorrt_libs-8.6.1-py2.py3-none-manylinux_2_17_x86_64.whl',
        'public-pins."TensorRT-8.6.1.6.tar.gz',
        ["public-pins", "file name of a wheel"],
    ),
    "a pin without its origin": (
        'origin = "two files of one public project"\n',
        "",
        ["public-pins", "origin"],
    ),
    "short commit": ("84b5be1d6fc0", "84b5", ["commits", "40 hex"]),
    "platform digest of what is no index": (
        'digest-kind = "unknown"',
        'digest-kind = "unknown"\nplatform-digest = "sha256:' + "0" * 64 + '"',
        ["base.platform-digest", "index"],
    ),
    "host without Pythons": ('["docker", "host"]', '["docker"]', ["host-pythons"]),
    "pin for a Python it lacks": ('packages-on."3.10"', 'packages-on."3.9"', ["3.9"]),
    "source and package": ('pycuda = "2026.1"', 'numpy = "2.4.6"', ["sources", "numpy"]),
    "default without row": ('default = "rtx-1.7"', 'default = "rtx-2.0"', ["default", "rtx-1.7"]),
    "later schema": ("schema = 1", "schema = 2", ["schema", "must be 1 for this version"]),
    "not TOML": ("schema = 1", "schema = ", ["not TOML", "line"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_matrix_is_refused_with_file_and_key(edited, name):
    old, new, words = WRONG[name]
    with pytest.raises(UsageError) as caught:
        edited(old, new)
    assert "versions.toml" in caught.value.message
    for word in words:
        assert word in caught.value.message
    assert caught.value.hint


def test_row_name_must_be_a_release(tmp_path):
    file = tmp_path / "versions.toml"
    file.write_text(MATRIX_FILE.read_text().replace("rtx-1.7", "newest"))
    with pytest.raises(UsageError, match=r"rows\.newest must be named after its TensorRT release"):
        read_matrix(file)


def test_row_hash_ignores_layout(edited):
    before = read_matrix(MATRIX_FILE).row("rtx").sha256()
    assert edited("opset = 18", "opset    =   18 # a comment").row("rtx").sha256() == before
    assert edited("opset = 18", "opset = 19").row("rtx").sha256() != before
    assert edited('pillow = "12.3.0"', 'pillow = "12.2.0"').row("rtx").sha256() != before


def test_facts_name_the_versions_of_the_python_in_use():
    row = read_matrix(MATRIX_FILE).row("rtx")
    assert row.packages_for("3.10")["numpy"] == "2.2.6"
    assert row.packages_for("3.11")["numpy"] == "2.4.6"
    facts = row.facts("3.12")
    assert facts["python"] == "3.12"
    assert facts["torch"] == "2.13.0"
