"""The V2 shells' library in the process of row 8.6's real bindings, over a registry of our own.

TensorRT's headers must be given: TRTYARD_NVINFER_HEADERS=<folder with NvInfer.h of 8.6>[:<...>]
The kernels stay out: nothing here launches one.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from tensorrt_api.stand_ins import extension_in, make_stand_ins, output

from trtyard.core.plugins.compile_plugins import LIBRARY_NAME, SHELL_LIBRARY_NAME_V2
from trtyard.run.on_host import pipeline_variables
from trtyard.system.uv import ROOT

VARIABLE = "TRTYARD_NVINFER_HEADERS"
KERNELS = """
#include <stddef.h>
size_t trtyard_padded_nms_workspace(void) { return 512; }
size_t trtyard_roi_align_workspace(void) { return 512; }
size_t trtyard_multiscale_roi_align_workspace(void) { return 512; }
int trtyard_padded_nms(void) { return 0; }
int trtyard_roi_align(void) { return 0; }
int trtyard_multiscale_roi_align(void) { return 0; }
const char* trtyard_status_string(void) { return ""; }
"""
# NVIDIA's own plugins are none here; the bindings must have given it a logger.
OWN_PLUGINS = """
#include <stdbool.h>
bool initLibNvInferPlugins(void* logger, const char* space) { return logger && !*space; }
"""
LOOK = """
import json, sys
from pathlib import Path
from trtyard.pipeline.tensorrt.api import trt
from trtyard.pipeline.tensorrt.drivers import this_driver

driver = this_driver()
seen = {"before": driver.registered_plugins()}
with driver.log() as log, driver.plugins(Path(sys.argv[1]), driver.logger(log)):
    seen["after"] = driver.registered_plugins()
creator = trt.get_plugin_registry().get_plugin_creator("PaddedNMS", "1", "")
seen["fields"] = [field.name for field in creator.field_names]
print(json.dumps(seen))
"""


def headers():
    """Return the folder with the headers of 8.6, or skip."""
    for folder in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        text = Path(folder, "NvInferVersion.h").read_text()
        if re.search(r"NV_TENSORRT_MAJOR 8\b", text) and re.search(r"NV_TENSORRT_MINOR 6\b", text):
            return Path(folder)
    pytest.skip(f"{VARIABLE} does not name a folder with the headers of TensorRT 8.6")


@pytest.fixture(scope="module")
def process(environment_of, tmp_path_factory):
    """Return the folder of the shells' library, and a function that runs Python beside it."""
    nvinfer = headers()
    packages = environment_of("rtx-1.7").python.parents[1]
    (cuda,) = packages.glob("lib/*/site-packages/nvidia/cu13/include")
    folder = tmp_path_factory.mktemp("registry")

    def compiled(name, source, *options):
        made = folder / f"{name}.o"
        command = ["g++", "-c", "-fPIC", "-o", made, *options]
        command += ["-isystem", nvinfer, "-isystem", cuda]
        text = source if isinstance(source, str) else None
        command += ["-x", "c", "-"] if text else [source]
        subprocess.run(command, input=text, text=True, check=True, cwd=ROOT / "plugins")
        return made

    shells = ["-std=c++17", "-fvisibility=hidden", "-Iinclude", "-I."]
    parts = [compiled("registry", Path("common/registry_v2.cpp"), *shells)]
    parts.append(compiled("kernels", KERNELS))
    library = folder / SHELL_LIBRARY_NAME_V2
    output("g++", "-shared", "-Wl,--no-undefined", "-o", library, *parts, "-ldl")
    harness = ROOT / "tests" / "gpu" / "plugin_harness.cpp"
    objects = [compiled("harness", harness, *shells), compiled("own", OWN_PLUGINS)]
    python = environment_of("8.6").python
    make_stand_ins(extension_in(python.parents[1]), python, folder, objects)
    variables = {**pipeline_variables(), "LD_LIBRARY_PATH": str(folder)}

    def run(given):
        return subprocess.run(
            [python, "-c", LOOK, given], env=variables, capture_output=True, text=True
        )

    return folder, run


@pytest.mark.parametrize("name", [LIBRARY_NAME, SHELL_LIBRARY_NAME_V2])
def test_loading_the_library_registers_its_creators(name, process):
    folder, run = process
    done = run(folder / name)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["before"] == []
    assert sorted(seen["after"]) == [
        "MaskRcnnROIAlign 1",
        "MaskRcnnROIAlign 1 trtyard",
        "MultiscaleRoIAlign 1",
        "MultiscaleRoIAlign 1 trtyard",
        "PaddedNMS 1",
        "PaddedNMS 1 trtyard",
        "RoiAlign 1",
    ]
    assert seen["fields"] == ["iou_threshold", "score_threshold", "keep_top_k", "box_offset"]


def test_a_library_that_registers_nothing_is_refused(process, tmp_path):
    _folder, run = process
    empty = tmp_path / "empty.so"
    output("g++", "-shared", "-o", empty, "-x", "c", os.devnull)
    done = run(empty)
    assert "registers no plugin for MultiscaleRoIAlign, PaddedNMS, MaskRcnnROIAlign" in done.stderr


def test_invalid_library_is_refused(process, tmp_path):
    _folder, run = process
    (tmp_path / "text.so").write_text("no library")
    assert "cannot load the plugin library" in run(tmp_path / "text.so").stderr
