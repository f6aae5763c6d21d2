"""The line of the user's code is found in a text, also if its path has special characters."""

import re
import traceback
import warnings

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from trtyard.core.cited_lines import is_library
from trtyard.known_failures.log_places import python_line

PIECES = [
    *"aé日 \t,;:!?#%&*+=-~^`'\"()[]{}<>|$\\@1",
    *(
        " in ",
        " at ",
        " at /",
        ": ",
        "# ",
        "->",
        ".py",
        ".py:",
        ".py(1)",
        ", line 1",
        'File "',
        "%20",
    ),
]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=8).map("".join)
# Three folders at most: 255 bytes a name, 4096 a path.
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(lambda names: f"/{'/'.join(names)}/net.py")

AUTHOR = "/home/me/a folder, with (odd) chars"
LOGS = {
    "own": "trtyard: export failed\n  op: aten::histc\n  at {file}:14 in forward: return x\n",
    "own without code": "trtyard: the export failed\n  at {file}:14 in forward\n",
    "torchscript": "RuntimeError: x (node defined in {file}(14): forward\n"
    "/e/lib/python3.10/site-packages/torch/nn/modules/module.py(1501): _slow_forward\n",
    "torchscript alone": "{file}(14): forward\n/e/site-packages/torch/jit/_trace.py(1): w\n",
    "graph": "  %5 : Float(3) = aten::add(%1, %2), scope: Net:: # {file}:14:0\n  return (%5)",
    "graph in an error": "Caused by the value '5 defined in (%5 : Long() = onnx::Gather(%1, %2), "
    "scope: net.Net:: # {file}:14:0\n)' (type 'Tensor')",
    "warning": "{file}:14: TracerWarning: Converting a tensor to a Python boolean might cause\n",
    "warning in a job's log": "2026-01-02T03:04:05Z stderr F {file}:14: UserWarning: x\n",
    "notebook": "RuntimeError  Traceback (most recent call last)\nFile {file}:14, in forward(self, "
    "x)\n     13 def forward(self, x):\n---> 14     return x\n",
    "dynamo": 'from user code:\n   File "{file}", line 14, in forward\n    return x\n',
}


def possible(path):
    """Tell whether ``path`` holds nothing that reads like the end of a path and all after it."""
    return not re.search(r"\.py:\d+ in [\w.<>]+: ", path) and not is_library(path)


@pytest.mark.parametrize("kind", LOGS)
@settings(max_examples=50, deadline=None)
@given(path=PATHS)
@example(path=f"{AUTHOR}/net.py")
def test_a_path_is_read_whole(kind, path):
    assume(possible(path))
    found = python_line(LOGS[kind].format(file=path))
    assert re.fullmatch(re.escape(f"{path}:14") + r"( in forward(: return x)?)?", found), found


@settings(max_examples=50, deadline=None)
@given(path=PATHS)
@example(path=f"{AUTHOR}/net.py")
def test_traceback_path_is_read_whole(path):
    assume(possible(path))
    with pytest.raises(ZeroDivisionError) as raised:
        exec(  # noqa: S102
            compile("def forward(x):\n    return x / 0\nforward(1)\n", path, "exec"), {}
        )
    assert python_line("".join(traceback.format_exception(raised.value))).startswith(
        f"{path}:2 in forward"
    )


@settings(max_examples=50, deadline=None)
@given(path=PATHS)
def test_a_path_in_pythons_own_warning_is_read_whole(path):
    assume(possible(path))
    said = warnings.formatwarning("the trace might not generalize", UserWarning, path, 14, "x")
    assert python_line(said) == f"{path}:14"


@pytest.mark.parametrize("path", ["net.py", "my nets/net (1).py", "a: b/c.py"])
@pytest.mark.parametrize("kind", ["own", "torchscript alone", "graph", "warning", "dynamo"])
def test_a_relative_path_with_spaces_is_read_whole(kind, path):
    assert python_line(LOGS[kind].format(file=path)).startswith(f"{path}:14")


@pytest.mark.parametrize(
    ("file", "library"),
    [
        ("/e/lib/python3.11/site-packages/torch/nn/functional.py", True),
        (r"C:\e\Lib\site-packages\torch\nn\functional.py", True),
        (r"C:\Python39\lib\runpy.py", True),
        ("/usr/lib/python3.11/runpy.py", True),
        ("/src/pytorch/torch/onnx/utils.py", True),
        ("/home/me/lib/python projects/net.py", False),
        ("/home/me/torch nn/net.py", False),
        (r"C:\Users\me\net.py", False),
    ],
)
def test_installed_files_are_libraries(file, library):
    assert is_library(file) is library


def test_windows_traceback_gives_the_users_line():
    log = (
        'Traceback (most recent call last):\n  File "C:\\my nets\\net.py", line 3, in forward\n'
        '    return relu(x)\n  File "C:\\e\\Lib\\site-packages\\torch\\nn\\functional.py", line 7, '
        "in relu\n    raise RuntimeError\n"
    )
    assert python_line(log) == "C:\\my nets\\net.py:3 in forward: return relu(x)"
