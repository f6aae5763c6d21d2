"""Each rule of the matrix, broken on a real row by the one change that it is there for."""

from dataclasses import replace

import pytest

from trtyard.core.errors import UsageError
from trtyard.matrix.compatibility import DRIVERS, NVCC, TENSORRT, TORCH, release_of
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.rules import RULES, problems
from trtyard.system.uv import MATRIX_FILE

ROWS = read_matrix(MATRIX_FILE).rows


def packages(name, **pins):
    return {**ROWS[name].packages, **pins}


# rule: row, what is changed in it, the key that is named, words of the reason
BROKEN = {
    "torch without a wheel for that Python": (
        "11.3",
        {"python": "3.9", "host_pythons": ()},
        "packages.torch",
        "3.10 to 3.14, not for 3.9",
    ),
    "torch that nobody knows": (
        "8.6",
        {"packages": packages("8.6", torch="2.99.0", torchvision="0.114.0")},
        "packages.torch",
        "TORCH in trtyard/matrix/compatibility.py",
    ),
    "torchvision of another torch": (
        "7.0",
        {"packages": packages("7.0", torchvision="0.6.0")},
        "packages.torchvision",
        "torch 1.4.0 needs 0.5",
    ),
    "torch of another CUDA": (
        "10.16",
        {"cuda": "12.9", "driver": "575.51.03"},
        "cuda",
        "torch 2.12.0 on PyPI is linked against CUDA 13.0",
    ),
    "dynamo in a torch without it": ("8.6", {"exporter": "dynamo"}, "exporter", "use torchscript"),
    "an opset that dynamo does not write": ("11.3", {"opset": 17}, "opset", "writes 18 to"),
    "an opset that TorchScript does not write": (
        "7.0",
        {"opset": 12},
        "opset",
        "exporter of torch 1.4.0 supports up to 11",
    ),
    "an opset that the parser does not take": (
        "8.6",
        {"opset": 18},
        "opset",
        "parser of TensorRT 8.6.1.6 supports up to 17",
    ),
    "CUDA that TensorRT is not built for": (
        "8.6",
        {"cuda": "12.9"},
        "cuda",
        "TensorRT 8.6.1.6 is built for CUDA 11.0",
    ),
    "TensorRT that nobody knows": ("11.3", {"tensorrt": "11.9.0.1"}, "tensorrt", "TENSORRT in"),
    "a driver older than CUDA": ("rtx-1.7", {"driver": "575.57.08"}, "driver", "needs 580.65.6"),
    "an architecture that nvcc dropped": (
        "11.3",
        {"architectures": ("70", *ROWS["11.3"].architectures)},
        "architectures",
        "has 70; nvcc of CUDA 13.0 compiles for 75 to 121",
    ),
    "an architecture too new for nvcc": (
        "8.6",
        {"architectures": (*ROWS["8.6"].architectures, "120")},
        "architectures",
        "nvcc of CUDA 11.8 compiles for 35 to 90",
    ),
    "an nvcc of another CUDA than TensorRT's": (
        "8.6",
        {"nvcc": "12.9"},
        "nvcc",
        "is 12.9; TensorRT 8.6.1.6 is built for CUDA 11.0",
    ),
    "a GPU that TensorRT does not run on": (
        "rtx-1.7",
        {"runs_on": (*ROWS["rtx-1.7"].runs_on, "9.0"), "architectures": ("80", "90", "120")},
        "runs-on",
        "9.0, which TensorRT 1.7.1.116 does not support",
    ),
    "a GPU without a kernel": (
        "8.6",
        {"architectures": ("70", "80", "86")},
        "runs-on",
        "9.0, but no kernel is compiled",
    ),
    "V2 plugins for TensorRT 11": (
        "11.3",
        {"plugin_shells": ("cpp-v2",)},
        "plugin-shells",
        "11.3.0.99 does",
    ),
    "V2 plugins for RTX": ("rtx-1.7", {"plugin_shells": ("cpp-v2",)}, "plugin-shells", "for RTX"),
    "V3 plugins for RTX before 1.7": (
        "rtx-1.7",
        {"tensorrt": "1.6.1.120"},
        "plugin-shells",
        "for RTX 1.6.1.120 does not support",
    ),
    "V3 plugins for TensorRT 8": (
        "8.6",
        {"plugin_shells": ("cpp-v3",)},
        "plugin-shells",
        "8.6.1.6 does",
    ),
    "Python that the distribution lacks": (
        "8.6",
        {"python": "3.10"},
        "python",
        "bookworm has 3.11",
    ),
    "a glibc newer than the distribution's": ("7.0", {"glibc": "2.28"}, "glibc", "bionic has 2.27"),
    "a distribution that nobody knows": (
        "rtx-1.7",
        {"base": replace(ROWS["rtx-1.7"].base, suite="sid")},
        "base.suite",
        "SUITES in",
    ),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=lambda row: row.name)
def test_every_committed_row_follows_the_rules(row):
    assert not list(problems(row))


@pytest.mark.parametrize("name", BROKEN)
def test_impossible_row_error_has_key_and_reason(name):
    row, change, key, words = BROKEN[name]
    found = list(problems(replace(ROWS[row], **change)))
    assert any(key == one and words in reason for one, reason in found), found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_has_a_failing_example(rule):
    broken = (replace(ROWS[row], **change) for row, change, _, _ in BROKEN.values())
    assert any(list(rule(row)) for row in broken)


def test_reader_error_has_file_and_key(tmp_path):
    file = tmp_path / "versions.toml"
    file.write_text(
        MATRIX_FILE.read_text().replace('torchvision = "0.5.0"', 'torchvision = "0.6.0"')
    )
    with pytest.raises(UsageError) as caught:
        read_matrix(file)
    assert "versions.toml: rows.7.0.packages.torchvision" in caught.value.message
    assert caught.value.exit_code == 2


def test_compatibility_tables_cover_every_row():
    for row in ROWS.values():
        assert release_of(row.packages["torch"]) in TORCH
        assert (row.flavour, release_of(row.tensorrt)) in TENSORRT
        assert release_of(row.cuda) in NVCC
        assert release_of(row.cuda)[0] in DRIVERS
