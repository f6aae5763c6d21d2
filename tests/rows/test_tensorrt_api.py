"""The code that drives TensorRT, held against what each release's bindings say of themselves.

The bindings are real and in the rows' environments; TensorRT's libraries are not. With libraries in
their place that only have the right names, the bindings can be imported, and tell every class,
method and signature. From that a stub file is made, with which a type checker reads our code.
Nothing of TensorRT runs.
"""

import ast
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time

import pytest
from tensorrt_api.stand_ins import extension_in, make_stand_ins, output
from tensorrt_api.stubs import StubWriter

from trtyard.run.on_host import pipeline_variables
from trtyard.system.uv import ROOT, uv

PACKAGE = "trtyard.pipeline.tensorrt"
PIPELINE = ROOT / "trtyard" / "pipeline"
FOLDER = ROOT / "tests" / "rows" / "tensorrt_api"
ROWS = ("8.6", "10.16", "11.3", "rtx-1.7")
# Releases that no row has and ./run row add gives: their bindings for Python 3.11 and 3.12.
WITHOUT_A_ROW = {
    "10.13": """tensorrt-cu13-bindings==10.13.3.9.post1
        --hash=sha256:e9ca7fa16dead0d925e7c0ba80d5436dbdd1caf3a6fb53e20d6c87764b538d73
        --hash=sha256:4c50bd67de7eeabc4ade9d7e7a3614b948912aedaec00d53b88e9147aa2163d9""",
    "10.14": """tensorrt-cu13-bindings==10.14.1.48.post1
        --hash=sha256:30e220ec5cd049709270e9c835d2d69ae5b05d5c269fc067e27155d2b1ba8ff5
        --hash=sha256:1a098123ddf9e69629d66320666efbb2e237db76cd4faf715b7377471b9f4275""",
}
DRIVERS = {
    "7.0": "driver_7",
    "8.6": "driver_8",
    "10.13": "driver_10_13",
    "10.14": "driver_10_13",
    "10.16": "driver_10",
    "11.3": "driver_10",
    "rtx-1.7": "driver_rtx",
}
# The first name that api.py tries; the stubs of every release go by it.
STUB = "tensorrt_rtx_bindings"

TOOLS = ("cc", "nm", "readelf")  # of g++ and what it brings

# Run by the row's own Python: what our code makes of the bindings when it is imported, and its
# classes when they are made. All of that is inside of the bindings.
LOOK = """
from trtyard.pipeline.tensorrt import engine
from trtyard.pipeline.tensorrt.drivers import this_driver

driver = this_driver()
with driver.log() as log:
    driver.logger(log)
print(type(driver).__module__.rpartition(".")[2])
"""
# What TensorRT calls after each run, here by hand.
PROFILE = """
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.driver_named import KeptTimes

times = KeptTimes()
assert isinstance(times, trt.IProfiler)
assert hasattr(trt.IProfiler, "report_layer_time")  # what it overrides
for _ in range(2):
    times.report_layer_time("conv", 1.5)
    times.report_layer_time("nms", 0.25)
print(times.times)
"""
NMS = {"iou_threshold": 0.5, "score_threshold": 0.25, "keep_top_k": 7, "box_offset": 1}
ROI = {
    "output_height": 3,
    "output_width": 5,
    "spatial_scale": 0.0625,
    "sampling_ratio": 2,
    "aligned": 1,
    "mode": 1,
}
PYRAMID = {
    "output_height": 3,
    "output_width": 5,
    "sampling_ratio": 2,
    "aligned": 1,
    "canonical_scale": 200,
    "canonical_level": 3,
    "scale_0": 0.25,
    "scale_1": 0.125,
    "scale_2": 0.0625,
    "scale_3": 0.0,
    "scale_4": 0.0,
}
# Without bindings, a stand-in for the whole module: only that our code imports on Python 3.6.
LOOK_AT_7 = """
import sys
from unittest import mock

sys.modules["tensorrt"] = mock.MagicMock(__version__="7.0.0.11", __name__="tensorrt")
"""


class Bindings:
    """A row's bindings: what they say of themselves, and how to run Python with them."""

    def __init__(self, python, variables, module):
        self.python = python
        self.variables = variables
        self.described = json.loads(self.run(FOLDER / "describe.py", module))

    def run(self, *words):
        done = subprocess.run(
            [self.python, *words], env=self.variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def bindings(environment_of, tmp_path_factory):
    """Return a function that gives a row's bindings, with libraries in place of TensorRT's."""
    known = {}

    def of(name):
        if name not in known:
            lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
            if lacking:
                pytest.skip(f"no {', '.join(lacking)} on this machine")
            python = environment_of("10.16" if name in WITHOUT_A_ROW else name).python
            variables = pipeline_variables()
            module = STUB
            if not name.startswith("rtx"):
                module = "tensorrt_bindings"
                environment = python.parents[1]
                if name in WITHOUT_A_ROW:
                    environment = tmp_path_factory.mktemp("bindings")
                    packages = install(WITHOUT_A_ROW[name], python, environment)
                    variables["PYTHONPATH"] = f"{packages}{os.pathsep}{variables['PYTHONPATH']}"
                folder = tmp_path_factory.mktemp("libraries")
                make_stand_ins(extension_in(environment), python, folder)
                variables["LD_LIBRARY_PATH"] = str(folder)
            known[name] = Bindings(python, variables, module)
        return known[name]

    return of


def install(requirement, python, environment):
    """Install one wheel by its hash; return the folder that its packages are in."""
    asked = environment / "requirements.txt"
    asked.write_text(requirement.replace("\n", " \\\n") + "\n")
    packages = environment / "lib" / "python3" / "site-packages"
    command = [uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    output(*command, "--python", python, "--target", packages, "--requirements", asked)
    return packages


@pytest.fixture(scope="module")
def stubs(bindings, tmp_path_factory):
    """Return a function that gives the folder with a release's stub file."""
    known = {}

    def of(name):
        if name not in known:
            if name == "7.0":
                text = (FOLDER / "documented_7_0.pyi").read_text()
            else:
                text = StubWriter(bindings(name).described).text()
            folder = tmp_path_factory.mktemp("stubs")
            (folder / STUB).mkdir()
            (folder / STUB / "__init__.pyi").write_text(text)
            known[name] = folder
        return known[name]

    return of


def served_by(name):
    """Return the modules that a release uses: its driver and the common code, by their imports.

    Each is a path below ``trtyard/pipeline`` without its ending. The registry loads the shells.
    """
    names = ["tensorrt/engine", "tensorrt/runner", f"tensorrt/{DRIVERS[name]}"]
    for module in names:
        for node in ast.parse(source_of(module).read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.module.startswith(f"{PACKAGE}."):
                inner = f"tensorrt/{node.module.rpartition('.')[2]}"
                names += [inner] if inner not in (*names, "tensorrt/api") else []
        if module == "tensorrt/shells":
            shells = sorted(PIPELINE.glob("ops/*_op/shell.py"))
            names += [file.relative_to(PIPELINE).with_suffix("").as_posix() for file in shells]
    return names


def source_of(module):
    return PIPELINE / f"{module}.py"


@pytest.fixture(scope="module")
def type_check(stubs, tmp_path_factory):
    """Return a function that has mypy read what a release uses, with its stubs.

    It reads a copy: a module may have another text there.
    """
    cache, copy = tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("copy") / "trtyard"
    seconds = itertools.count(int(time.time()) + 1)
    for package in ("core", "ops", "pipeline"):
        shutil.copytree(ROOT / "trtyard" / package, copy / package)
    (copy / "__init__.py").touch()

    def run(name, changed=None):
        files = {one: copy / "pipeline" / f"{one}.py" for one in served_by(name)}
        for module, file in files.items():
            text = (changed or {}).get(module) or source_of(module).read_text()
            if text != file.read_text():
                file.write_text(text)
                # mypy takes a file of the same size and second for unchanged.
                os.utime(file, times=(next(seconds),) * 2)
        command = [sys.executable, "-m", "mypy", "--config-file=", "--no-error-summary"]
        command += ["--show-column-numbers"]
        command += ["--follow-imports=silent", "--ignore-missing-imports", "--check-untyped-defs"]
        # The checker's: the stubs are written for it, and the oldest of ours is unknown to it.
        command += ["--python-version=3.12", f"--cache-dir={cache}"]
        done = subprocess.run(
            [*command, *files.values()],
            cwd=copy.parent,
            env={**os.environ, "MYPYPATH": str(stubs(name))},
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    return run


def test_every_file_that_uses_tensorrt_is_checked():
    naming = {
        path for path in PIPELINE.rglob("*.py") if "tensorrt.api import trt" in path.read_text()
    }
    assert naming <= {source_of(each) for name in DRIVERS for each in served_by(name)}
    assert len(naming) > 8


@pytest.mark.parametrize("name", [*ROWS, *WITHOUT_A_ROW])
def test_the_row_gets_its_driver(name, bindings):
    assert bindings(name).run("-c", LOOK).strip() == DRIVERS[name]


@pytest.mark.parametrize("name", [*ROWS, *WITHOUT_A_ROW])
def test_the_profiler_adds_up_the_times_of_layers(name, bindings):
    assert bindings(name).run("-c", PROFILE).strip() == "{'conv': 3.0, 'nms': 0.5}"


@pytest.mark.parametrize("name", ["10.13", "10.14", "10.16", "11.3", "rtx-1.7"])
def test_shells_forward_binding_arguments_to_kernels(name, bindings, tmp_path):
    library = tmp_path / "told.so"
    include = f"-I{ROOT / 'plugins' / 'include'}"
    output("cc", "-shared", "-fPIC", include, "-o", library, FOLDER / "told.c")
    values = json.dumps({"nms": NMS, "roi": ROI, "pyramid": PYRAMID})
    found = json.loads(bindings(name).run(FOLDER / "drive_shells.py", library, values))
    nms, roi, pyramid = found["nms"], found["roi"], found["pyramid"]
    assert nms.pop("told") == (
        "boxes 100 scores 200 indices 300 count 400 batch 2 classes 4 box_classes 1"
        " boxes_per_class 9 keep_top_k 7 iou 0.50 score 0.25 box_offset 1 dtype 1"
        " workspace 4096 of 2040907 stream 77"
    )
    assert roi.pop("told") == (
        "features 100 rois 200 batch_indices 300 pooled 400 batch 2 channels 8 height 20 width 30"
        " rois_count 6 output_height 3 output_width 5 spatial_scale 0.0625 sampling_ratio 2"
        " aligned 1 mode 1 dtype 0 features_format 1 pooled_format 0"
        " workspace 4096 of 5392082 stream 77"
    )
    assert pyramid.pop("told") == (
        "map 100 20 30 0.2500 map 200 10 15 0.1250 map 300 5 8 0.0625"
        " rois 600 batch_indices 700 pooled 800 batch 2 channels 8 rois_count 6 output_height 3"
        " output_width 5 sampling_ratio 2 aligned 1 canonical_scale 200 canonical_level 3"
        " dtype 0 features_format 1 pooled_format 0 workspace 4096 of 60305 stream 77"
    )
    for shell, op, values, outputs, workspace, tensors in (
        (nms, "PaddedNMS", NMS, 2, 2040907, 4),
        (roi, "MaskRcnnROIAlign", ROI, 1, 5392082, 4),
        (pyramid, "MultiscaleRoIAlign", PYRAMID, 1, 60305, 8),
    ):
        assert shell == {
            "name": [op, "1", ""],
            "fields": list(values),
            "values": values,
            "outputs": outputs,
            "types": True,
            "takes": [True] * tensors,
            "takes_int8": False,
            "workspace": workspace,
        }


def test_the_oldest_python_imports_its_driver(environment_of):
    python = environment_of("7.0").python
    done = subprocess.run(
        [python, "-c", LOOK_AT_7 + LOOK], env=pipeline_variables(), capture_output=True, text=True
    )
    assert done.stdout.strip() == DRIVERS["7.0"], done.stderr


@pytest.mark.parametrize("name", DRIVERS)
def test_every_used_api_exists_with_its_arguments(name, type_check):
    assert type_check(name) == ""


@pytest.mark.parametrize(
    ("name", "module", "right", "wrong", "said"),
    [
        (
            "7.0",
            "tensorrt/tensors_by_binding",
            "execute_async_v2",
            "execute_async_v3",
            "execute_async_v3",
        ),
        ("8.6", "tensorrt/driver_before_10", "plugin_creator_list", "all_creators", "all_creators"),
        (
            "8.6",
            "tensorrt/tensors_by_name",
            "execute_async_v3(stream)",
            "execute_async_v3()",
            "stream_handle",
        ),
        ("10.13", "tensorrt/driver_10_13", "PLUGIN_V3", "ATTENTION_INPUT", "ATTENTION_INPUT"),
        ("10.16", "tensorrt/driver_10_13", "all_creators", "all_the_creators", "all_the_creators"),
        (
            "11.3",
            "tensorrt/driver_named",
            "ProfilingVerbosity.DETAILED",
            "ProfilingVerbosity.VERBOSE",
            "VERBOSE",
        ),
        (
            "11.3",
            "tensorrt/driver_10_13",
            "LayerType.PLUGIN_V3",
            "LayerType.PLUGIN_V4",
            "PLUGIN_V4",
        ),
        (
            "11.3",
            "tensorrt/driver_10",
            "ENABLE_PLUGIN_OVERRIDE",
            "PLUGIN_OVERRIDE",
            "PLUGIN_OVERRIDE",
        ),
        ("8.6", "tensorrt/tensors_by_name", ").profiler = ", ").profile = ", "profile"),
        (
            "11.3",
            "tensorrt/driver_named",
            "layer_name: str, ms: float",
            "layer_name: str",
            "report_layer_time",
        ),
        ("rtx-1.7", "tensorrt/engine", "parser.num_errors", "parser.errors", "errors"),
        ("rtx-1.7", "ops/padded_nms_op/shell", "exprs.constant", "exprs.fixed", "fixed"),
    ],
)
def test_a_wrong_name_or_argument_is_found(name, module, right, wrong, said, type_check):
    text = source_of(module).read_text()
    assert right in text
    assert f'"{said}"' in type_check(name, {module: text.replace(right, wrong)})


@pytest.mark.parametrize("name", DRIVERS)
def test_every_tensorrt_object_has_a_known_type(name, stubs, type_check):
    members = names_in(stubs(name) / STUB / "__init__.pyi")
    changed = {
        module: ast.unparse(Revealing(members).visit(ast.parse(file.read_text())))
        for module, file in ((one, source_of(one)) for one in served_by(name))
    }
    found = revealed(type_check(name, changed))
    assert len(found) > 30
    # A generator is looked at more than once, before its type is known as well.
    unknown = [place for place, types in found.items() if types == {"Any"}]
    named = [(module, expression_at(changed[module], *place)) for module, *place in unknown]
    assert named == []


def revealed(words):
    """Return the types that mypy gave to each expression, by module, line and column."""
    found = {}
    for module, line, column, kind in re.findall(
        r'pipeline/([\w/]+)\.py:(\d+):(\d+): note: Revealed type is "(.*)"', words
    ):
        found.setdefault((module, int(line), int(column)), set()).add(kind)
    return found


def expression_at(text, line, column):
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    (argument,) = (
        node.args[0]
        for node in calls
        if node.args
        and (node.args[0].lineno, node.args[0].col_offset + 1) == (line, column)
        and ast.unparse(node.func) == "reveal_type"
    )
    return ast.unparse(argument)


def names_in(stub):
    """Return the name of every member of every class in a stub file."""
    return {
        getattr(node, "name", None) or node.target.id
        for one in ast.walk(ast.parse(stub.read_text()))
        if isinstance(one, ast.ClassDef)
        for node in one.body
        if isinstance(node, (ast.FunctionDef, ast.AnnAssign))
    }


class Revealing(ast.NodeTransformer):
    """Has the type checker tell on what each attribute is looked up that TensorRT has as well."""

    # Of numpy, pycuda, onnx, Python's own and ours.
    OTHERS = ("np", "value", "outputs", "cuda", "primary", "onnx", "node", "sys", "ctypes", "each")

    def __init__(self, members):
        self.members = members

    def visit_ClassDef(self, node):
        node.body = [self.visit(each) for each in node.body]  # its bases must stay names
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        root = node.value
        # The module itself mypy would no longer know for one.
        other = isinstance(root, ast.Name) and root.id == "trt"
        while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
            root = root.func if isinstance(root, ast.Call) else root.value
        other = other or (isinstance(root, ast.Name) and root.id in self.OTHERS)
        # Or mypy would no longer know this for where the attribute comes from.
        made = isinstance(node.value, ast.Name) and node.value.id == "self"
        other = other or (made and isinstance(node.ctx, ast.Store))
        if node.attr in self.members and not other:
            reveal = ast.Name("reveal_type", ast.Load())
            node.value = ast.Call(reveal, [node.value], [])
        return node
