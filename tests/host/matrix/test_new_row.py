"""A row like another, as data and as text, for what no published release shows today."""

from dataclasses import replace

import pytest

from trtyard.core.errors import UsageError
from trtyard.matrix import compatibility
from trtyard.matrix.new_row import row_like, torchvision_of
from trtyard.matrix.reader import parse_matrix, read_matrix
from trtyard.matrix.text import with_row, without_row
from trtyard.system.uv import MATRIX_FILE

TEXT = MATRIX_FILE.read_text()
MATRIX = read_matrix(MATRIX_FILE)
RTX, TEN = MATRIX.row("rtx"), MATRIX.row("10.16")
ALL_PYTHONS = tuple(f"3.{minor}" for minor in range(8, 20))


@pytest.fixture
def next_rtx(monkeypatch):
    known = compatibility.TENSORRT["rtx", (1, 7)]
    monkeypatch.setitem(compatibility.TENSORRT, ("rtx", (1, 8)), known)
    return {"name": "rtx-1.8", "tensorrt": "1.8.0.1", "packaged": "1.8.0.1.post1"}


def test_pythons_without_bindings_are_left_out_with_their_pins(next_rtx):
    row = row_like(RTX, **next_rtx, pythons=("3.11", "3.12"))
    assert row.host_pythons == ("3.11", "3.12")
    assert RTX.packages_on
    assert row.packages_on == {}
    text = with_row(MATRIX, TEXT, row, like=RTX, note="a note")
    assert parse_matrix(text, MATRIX_FILE).rows["rtx-1.8"] == row
    assert '[rows."rtx-1.8".packages-on' not in text


def test_new_row_keeps_comments_in_place(next_rtx):
    row = row_like(RTX, **next_rtx, pythons=ALL_PYTHONS)
    text = with_row(MATRIX, TEXT, row, like=RTX, note="a note")
    block = text[text.index("# --- a note") :]
    for line in TEXT.splitlines():
        if "# compute capabilities that load its engines" in line:
            assert line in block.splitlines()
    assert 'tensorrt-rtx-cu13-bindings = "1.8.0.1.post1"\n' in block


def test_longer_value_moves_its_comment(next_rtx):
    text = TEXT.replace(
        'tensorrt-rtx-cu13-libs = "1.7.1.116"', 'tensorrt-rtx-cu13-libs = "1.7.1.116"    # why'
    )
    matrix = parse_matrix(text, MATRIX_FILE)
    row = row_like(matrix.row("rtx"), **next_rtx, pythons=ALL_PYTHONS)
    new = with_row(matrix, text, row, like=matrix.row("rtx"), note="a note")
    assert 'tensorrt-rtx-cu13-libs = "1.8.0.1.post1"  # why\n' in new


def test_nvcc_packages_and_driver_follow_cuda(monkeypatch):
    torch = replace(compatibility.TORCH[2, 12], cuda=(12, 9))
    monkeypatch.setitem(compatibility.TORCH, (2, 11), torch)
    pins = {"nvidia-cuda-nvcc": "12.9.1"}
    row = row_like(
        TEN,
        name="10.15",
        tensorrt="10.15.1.29",
        packaged="10.15.1.29",
        pythons=ALL_PYTHONS,
        torch="2.11.0",
        cuda="12.9",
        cuda_packages=pins,
    )
    assert (row.cuda, row.nvcc, row.driver) == ("12.9", "12.9", "525.60.13")
    assert row.packages["nvidia-cuda-nvcc"] == "12.9.1"
    assert (TEN.gpu, row.gpu) == ({"onnxruntime-gpu": "1.31.1"}, {})  # which is for CUDA 13
    assert "tensorrt-cu12-bindings" in row.packages
    assert "tensorrt-cu12-libs" in row.vendor_packages
    assert "tensorrt-cu12-libs" in row.image.runtime
    text = with_row(MATRIX, TEXT, row, like=TEN, note="a note")
    assert parse_matrix(text, MATRIX_FILE).rows["10.15"] == row


def test_pins_of_other_releases_are_not_copied():
    what = {"name": "10.15", "tensorrt": "10.15.1.29", "packaged": "10.15.1.29"}
    row = row_like(TEN, **what, pythons=ALL_PYTHONS)
    assert TEN.public_pins
    assert row.public_pins == {}
    text = with_row(MATRIX, TEXT, row, like=TEN, note="a note")
    assert text.count("10.16.1.11") == TEXT.count("10.16.1.11")


@pytest.mark.parametrize(
    ("torch", "torchvision"), [("1.4.0", "0.5.0"), ("2.2.2", "0.17.2"), ("2.12.1", "0.27.1")]
)
def test_torchvision_follows_torch(torch, torchvision):
    assert torchvision_of(torch) == torchvision


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('[rows."10.16"]\n', "[rows.'10.16']\n"),
        ('[rows."10.16"]\ntensorrt = "10.16.1.11"', '[rows."10.16"]\n"tensorrt" = "10.16.1.11"'),
        ('[rows."10.16".vendor-packages]\n', "[rows.\"10.16\".'vendor-packages']\n"),
    ],
)
def test_unsupported_layout_is_an_error(old, new):
    assert old in TEXT
    text = TEXT.replace(old, new)
    matrix = parse_matrix(text, MATRIX_FILE)
    like = matrix.row("10.16")
    what = {"name": "10.15", "tensorrt": "10.15.1.29", "packaged": "10.15.1.29"}
    row = row_like(like, **what, pythons=ALL_PYTHONS)
    with pytest.raises(UsageError, match=r"layout of versions\.toml is not supported") as caught:
        with_row(matrix, text, row, like=like, note="a note")
    assert "edit the file by hand" in caught.value.hint


@pytest.mark.parametrize("name", [one for one in MATRIX.rows if one != MATRIX.default])
def test_each_row_can_be_removed(name):
    text = without_row(MATRIX, TEXT, name)
    assert f'[rows."{name}"' not in text
    assert len(TEXT.splitlines()) - len(text.splitlines()) > 20
