"""``explain``: logs from public threads, and the failures that it finds in them.

Each file in ``logs/`` quotes a few lines of the thread named in its first line. They stand for
releases of TensorRT and torch that cannot run here; what can is in tests/pipeline/known_failures.
"""

import re

import pytest

from trtyard.core.toolchains import Toolchain, is_within, outside_in_words
from trtyard.diagnose.explain import as_is
from trtyard.known_failures import KNOWN_FAILURES, named
from trtyard.known_failures.explanation import (
    Explanation,
    error_lines,
    explain,
    takes_as_is,
)
from trtyard.known_failures.log_places import Place
from trtyard.system.uv import ROOT

LOGS_FOLDER = ROOT / "tests" / "host" / "logs"
LOGS = sorted(LOGS_FOLDER.glob("*.log"))
SUCCESSFUL = sorted(LOGS_FOLDER.glob("successful/*.log"))


def read(file):
    """Return the facts in a log's first lines, and the log."""
    *head, log = re.split(r"^# (\w+: .*)\n", file.read_text(), flags=re.MULTILINE)
    return dict(line.split(": ", 1) for line in head if line), log


@pytest.mark.parametrize("file", LOGS, ids=lambda file: file.stem)
def test_a_log_from_a_public_thread_is_explained(file):
    facts, log = read(file)
    found = explain(log)
    assert found[0].failure.name == file.stem.partition(".")[0]
    # Of all the other entries none finds itself in it, unless the log really holds both.
    assert [one.failure.name for one in found[1:]] == list(
        filter(None, facts.pop("also", "").split(", "))
    )
    assert facts.pop("source") in found[0].failure.sources
    place = {**found[0].place._asdict(), "capability": found[0].capability}
    assert {name: str(place[name]) for name in facts} == facts


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("libcuda.so.1: cannot open shared object file: No such file", "no-cuda-device"),
        ("RuntimeError: No CUDA GPUs are available", "no-cuda-device"),
        ("libcudart.so.12: cannot open shared object file: No such file", "library-not-found"),
        ("ModuleNotFoundError: No module named 'onnxscript'", "python-package-missing"),
        ("ImportError: No module named tensorrt", "python-package-missing"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "gpu-memory-full"),
        ("unknown or invalid runtime name: nvidia", "docker-without-gpu-runtime"),
        (
            "docker: Error response from daemon: failed to discover GPU vendor from CDI: no known "
            "GPU vendor found",
            "docker-without-gpu-runtime",
        ),
        (
            "no matching manifest for linux/arm64 in the manifest list",
            "image-of-other-architecture",
        ),
        ("/bin/sh: 1: nvcc: not found", "nvcc-not-found"),
        ("OSError: CUDA_HOME environment variable is not set.", "nvcc-not-found"),
        ("E: Unable to locate package libnvinfer8", "apt-package-unknown"),
        ('Head "https://nvcr.io/v2/": unauthorized: authentication', "registry-wants-login"),
        ("denied: requested access to the resource is denied", "registry-wants-login"),
        ("ImportError: libnvinfer.so.8: undefined symbol: _Z3abc", "tensorrt-libraries-mixed"),
        ("version `CXXABI_1.3.13' not found (required by x.so)", "system-too-old"),
        ("ERROR: No matching distribution found for onnxruntime-gpu==1.4", "pip-nothing-fits"),
        ("RuntimeError: CUDA error: device-side assert triggered", "illegal-memory-access"),
        ("pycuda._driver.LogicError: cuMemAlloc failed: invalid device context", "no-cuda-context"),
        ("ONNX export of operator adaptive_max_pool3d, x", "adaptive-pooling"),
        ("ScalarType ComplexDouble is an unexpected tensor scalar type", "complex-numbers"),
        ("Exporting the operator 'aten::fft_irfft' to ONNX opset version 9", "fourier-transform"),
        ("Unsupported: ONNX export of operator pixel_shuffle, x", "exporter-gave-up"),
        ("In node 4 (importPad): UNSUPPORTED_NODE: Assertion failed: a == b", "form-unsupported"),
        ("lookup x.io: Temporary failure in name resolution", "network-unreachable"),
    ],
)
def test_similar_wordings_match(line, name):
    names = [one.failure.name for one in explain(line)]
    assert names == [name]


@pytest.mark.parametrize("file", SUCCESSFUL, ids=lambda file: file.stem)
def test_clean_log_gets_no_explanation(file):
    assert explain(file.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "E: The package cache file is corrupted",
        "docker: Error response from daemon: it broke.",
        "Error response from daemon: it broke",
        "RuntimeError: it broke",
        "Error: it broke",
        "x.cpp:3:9: fatal error: it broke",
        "ERROR: it broke",
        "[E] it broke",
        "OSError: [Errno 5] Input/output",
        "Segmentation fault (core dumped)",
        "make: *** [Makefile:3: all] Aborted",
        "sh: 1: polygraphy: not found",
        "bash: /opt/x: Permission denied",
        "ld: undefined reference to `f'",
        "ls: cannot access 'x': No such file or directory",
        "panic: runtime",
        "net.exceptions.TimeoutExpired: it broke",
    ],
)
def test_unknown_error_lines_are_shown(line):
    assert explain(line) == []
    assert error_lines(f"compiling\n{line}\nthe end\n") == [line]


def test_zero_error_count_is_not_an_error():
    assert (
        error_lines("0 errors, 0 warnings\nno errors found\nErrors: 0\n3 passed, 0 failed\n") == []
    )


@pytest.mark.parametrize("failure", KNOWN_FAILURES, ids=lambda failure: failure.name)
def test_every_entry_has_a_test(failure):
    tests = [*ROOT.glob("tests/pipeline/known_failures/test_*.py")]
    tests += [
        ROOT / "tests/rows/test_bisect.py",
        ROOT / "tests/rows/test_known_failures.py",
        ROOT / "tests/pipeline/test_symptoms.py",
        ROOT / "tests/pipeline/bisect/test_faults.py",
        ROOT / "tests/host/known_failures/test_image_failures.py",
        ROOT / "tests/docker/test_build_failures.py",
    ]
    provoked = any(f'"{failure.name}"' in test.read_text() for test in tests)
    quoted = any(file.stem.partition(".")[0] == failure.name for file in LOGS)
    assert provoked or quoted


@pytest.mark.parametrize("failure", KNOWN_FAILURES, ids=lambda failure: failure.name)
def test_every_entry_has_cause_hint_and_sources(failure):
    assert failure.cause
    assert failure.hint
    assert failure.patterns or failure.symptom
    for pattern in failure.patterns:
        assert set(re.compile(pattern).groupindex) <= {"op", "node", "sm", "sm_hex"}
    for source in failure.sources:
        assert re.match(r"https://[\w.-]+/|measured: \w", source)
    assert failure.sources
    assert outside_in_words(failure.affected or ("any",))


def test_names_are_unique():
    names = [one.name for one in KNOWN_FAILURES]
    assert len(set(names)) == len(names)


ROWS = {
    "7.0": Toolchain("7.0", "full", "7.0.0.11", "1.4.0", "torchscript", 10, ("7.5",)),
    "8.6": Toolchain("8.6", "full", "8.6.1.6", "2.2.2", "torchscript", 17, ("8.9",)),
    "10.16": Toolchain("10.16", "full", "10.16.1.11", "2.12.0", "dynamo", 18, ("8.9", "9.0")),
    "11.3": Toolchain("11.3", "full", "11.3.0.99", "2.13.0", "dynamo", 18, ("8.9", "12.0")),
    "rtx-1.7": Toolchain("rtx-1.7", "rtx", "1.7.1.116", "2.13.0", "dynamo", 18, ("8.9", "12.0")),
}


@pytest.mark.parametrize(
    ("log", "rows"),
    [
        ("nonzero", ["8.6", "10.16", "11.3"]),
        ("non-max-suppression", ["8.6", "10.16", "11.3"]),
        ("topk-k-is-a-tensor", ["8.6", "10.16", "11.3", "rtx-1.7"]),
        ("slice-by-values", ["10.16", "11.3"]),
        ("range-of-floats", ["8.6", "10.16", "11.3", "rtx-1.7"]),
        ("standard-op-unsupported", ["8.6", "10.16", "11.3", "rtx-1.7"]),  # Round: from 8.2 on
        ("function-without-symbolic", ["8.6", "10.16", "11.3", "rtx-1.7"]),
        ("value-decides-shape-or-branch", ["7.0", "8.6"]),
        ("topk-limit", []),
        ("gpu-unsupported", []),
        ("gpu-unsupported.10", ["11.3", "rtx-1.7"]),
    ],
)
def test_supporting_rows_follow_from_affected_releases(log, rows):
    _, text = read(LOGS_FOLDER / f"{log}.log")
    explanation = explain(text)[0]
    assert [name for name, row in ROWS.items() if takes_as_is(explanation, row)] == rows


def test_no_row_is_recommended_if_none_is_affected():
    entry = named("engine-cut-short")
    explanation = Explanation(entry, 1, "", Place(), entry.affected)
    assert takes_as_is(explanation, ROWS["8.6"]) is None
    assert as_is(explanation) == ""


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        (("tensorrt < 8.5", "rtx"), "TensorRT 8.5 and newer, not TensorRT for RTX"),
        (("tensorrt < 8.6",), "TensorRT 8.6 and newer, TensorRT for RTX"),
        (("tensorrt >= 11.0", "rtx"), "TensorRT before 11.0, not TensorRT for RTX"),
        (("rtx",), "TensorRT, not TensorRT for RTX"),
        (("torch < 1.13",), "torch 1.13 and newer"),
        (("exporter == dynamo",), "an exporter other than dynamo"),
        (("opset < 16",), "opset 16 and newer"),
        (("any",), "no release"),
        (
            ("tensorrt < 8.2", "tensorrt >= 10.0, tensorrt < 10.9"),
            "TensorRT from 8.2 to before 10.0 or 10.9 and newer, TensorRT for RTX",
        ),
    ],
)
def test_rows_outside_a_range_are_described(ranges, words):
    assert outside_in_words(ranges) == words


def test_releases_are_compared_numerically():
    assert not is_within(ROWS["10.16"], ["tensorrt < 9.0"])
    assert is_within(ROWS["8.6"], ["torch < 2.10"])
    assert is_within(ROWS["8.6"], ["tensorrt >= 8.0, torch < 2.10"])
    assert not is_within(ROWS["8.6"], ["tensorrt >= 8.0, torch >= 2.10"])
    with pytest.raises(ValueError, match="tensorrt before 8"):
        is_within(ROWS["8.6"], ["tensorrt before 8"])


def test_origin_from_a_patched_parser_is_read():
    # As patches/onnx-tensorrt/8.6/errors-with-origin.patch words it.
    log = (
        "In node 171 (importTopK): UNSUPPORTED_NODE: Assertion failed: inputs.at(1).is_weights()\n"
        "  op: TopK (node /head/TopK)\n  in module /head\n  at /home/me/net.py(14): forward\n"
    )
    (found,) = explain(log)
    assert found.failure.name == "topk-k-is-a-tensor"
    assert found.place == Place("TopK", "/head/TopK", 171, "/home/me/net.py:14 in forward")


def test_each_failure_in_a_log_has_its_own_node():
    log = "\n".join(
        f'While parsing node number {number} [{op} -> "y"]:\n'
        f'--- Begin node ---\nname: "{op}_{number}"\nop_type: "{op}"\n--- End node ---\n'
        f"ERROR: x.cpp:1 In function parseGraph:\n[8] No importer registered for op: {op}"
        for number, op in ((3, "NonZero"), (7, "DCNv2"), (9, "Round"))
    )
    places = {one.failure.name: one.place for one in explain(log)}
    assert places["nonzero"] == Place("NonZero", "NonZero_3", 3, "")
    assert places["plugin-not-loaded"] == Place("DCNv2", "DCNv2_7", 7, "")
    assert places["standard-op-unsupported"] == Place("Round", "Round_9", 9, "")


def test_a_warning_or_a_missing_driver_does_not_hide_the_error():
    log = (
        "net.py:3: TracerWarning: Converting a tensor to a Python boolean might cause the trace\n"
        "CUDA driver version is insufficient for CUDA runtime version\n" + "\n" * 100 + "Internal "
        "Error (/TopK: K exceeds the maximum value allowed (3840).)"
    )
    names = [one.failure.name for one in explain(log)]
    assert names == ["topk-limit", "driver-missing-or-old", "python-value-frozen"]


def test_colours_and_crlf_are_ignored():
    log = (
        'While parsing node number 3 [TopK -> "y"]:\r\nERROR: In function \x1b[31mimportTopK\x1b[0m'
    )
    log += ":\r\n[8] Assertion failed: inputs.at(1).is_weights()\r\n"
    (found,) = explain(log)
    assert (found.failure.name, found.line) == ("topk-k-is-a-tensor", 3)


def test_node_imported_as_a_plugin_is_not_a_failure():
    assert (
        explain(
            "[TRT] [I] No importer registered for op: TRTInstanceNormalization. "
            "Attempting to import as plugin.\n"
            "[TRT] [I] Successfully created plugin: TRTInstanceNormalization\n"
        )
        == []
    )


def test_first_and_last_error_lines_are_shown():
    log = "\n".join(f"error {number}\nfine" for number in range(100))
    assert error_lines(log, most=4) == ["error 0", "error 1", "error 98", "error 99"]


def test_the_command_explains_a_file(tasks):
    file = next(one for one in LOGS if one.stem == "nonzero")
    done = tasks("explain", str(file))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"nonzero, line 5 of {file}")
    assert "  op     NonZero, node NonZero_559, number 84" in done.stdout
    assert "use masks with torch.where" in done.stdout
    assert "(TensorRT 8.5 and newer, not TensorRT for RTX)" in done.stdout
    assert "https://github.com/NVIDIA/TensorRT/issues/2285" in done.stdout


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("K exceeds the maximum value allowed (3840)", "topk-limit"),
        ("~~~^ K exceeds the maximum value allowed (3840)", "topk-limit"),
        pytest.param(
            f"K exceeds the maximum value allowed{' or so' * 50}", "topk-limit", id="long"
        ),
        ("boxes all 0", "boxes-all-zero"),
        ("the engine is slower than PyTorch", "slower-than-pytorch"),
        ("rois-half-a-pixel-off", "rois-half-a-pixel-off"),
    ],
)
def test_error_symptom_or_name_is_accepted(tasks, words, name):
    done = tasks("explain", words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}\n")


def test_unknown_failure_shows_error_lines_and_exits_with_1(tasks, tmp_path):
    log = tmp_path / "build.log"
    log.write_text("compiling\nlibfoo.so: undefined symbol, linking failed\ndone\n")
    done = tasks("explain", str(log))
    assert done.returncode == 1
    assert "no known failure found" in done.stderr
    assert "undefined symbol" in done.stdout
    assert "compiling" not in done.stdout


def test_log_without_an_error(tasks, tmp_path):
    log = tmp_path / "build.log"
    log.write_text("all went well\n")
    done = tasks("explain", str(log))
    assert done.returncode == 1
    assert "no line looks like an error" in done.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing.log", "nothing.log is neither a file nor a known failure"),
        ("topk-limt", "did you mean 'topk-limit'"),
        ("-", "stdin is empty"),
    ],
)
def test_wrong_usage_exits_with_2(tasks, given, said, tmp_path):
    done = tasks("explain", given, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("importTopK: Assertion failed: (inputs.at(1).is_weights())", "topk-k-is-a-tensor"),
        ("importSlice: Assertion failed: axes.valuesKnown()", "slice-by-values"),
    ],
)
def test_assertion_matches_without_file_and_line(line, name):
    assert explain(line)[0].failure.name == name


def test_op_without_onnx_form_is_not_a_mismatch_of_torchvision():
    log = "RuntimeError: ONNX export failed: Couldn't export operator torchvision::nms\n"
    assert [one.failure.name for one in explain(log)] == ["library-op-without-symbolic"]
