import json
import re

import pytest
from conftest import run_task
from docker.errors import ContainerError

from trtyard.core.inventory import read_requirements
from trtyard.render.dockerfiles import IMAGES, INVENTORY_PATH
from trtyard.system.uv import ROOT

MOST_BYTES = 700e6
SETTINGS = {"network_mode": "none", "remove": True, "read_only": True, "tmpfs": {"/tmp": ""}}  # noqa: S108


@pytest.fixture(scope="module")
def runtime(engine, row, tree):
    done = run_task("build", "--trt", row.name, "--target", "runtime", root=tree)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def python(engine, image, code):
    words = {"entrypoint": "python", "command": ["-W", "error", "-c", code]}
    return engine.containers.run(image, **words, **SETTINGS).decode()


def test_the_runtime_image_is_small(engine, runtime):
    assert sum(layer["Size"] for layer in engine.images.get(runtime).history()) <= MOST_BYTES


def test_runtime_image_matches_its_list_without_torch(engine, runtime, row):
    text = engine.containers.run(runtime, entrypoint="cat", command=[INVENTORY_PATH], **SETTINGS)
    found = {name: facts["version"] for name, facts in json.loads(text)["packages"].items()}
    lists = ROOT / IMAGES / row.name
    names = ("requirements-runtime.txt", "sources.txt")
    expected = read_requirements("".join((lists / name).read_text() for name in names))
    assert found == expected
    assert not {"torch", "onnx", "onnxruntime"} & set(found)


def test_runtime_loads_everything_but_the_driver(engine, runtime):
    code = (
        "import numpy, pycuda, trtyard.pipeline.run_engine\n"
        "from pathlib import Path\n"
        "from trtyard.pipeline.ops.kernels import KernelLibrary\n"
        "from trtyard.pipeline.run_engine import PLUGINS\n"
        "from trtyard.pipeline.tensorrt.shells import RegisteredShells, trt\n"
        "with RegisteredShells(KernelLibrary(PLUGINS)): print(trt.__version__)"
    )
    assert re.match(r"\d+\.\d+", python(engine, runtime, code))


def test_missing_gpu_exits_with_3(engine, runtime):
    command = ["run-engine", "--engine", "/opt/trtyard/row.json", "--out", "/tmp/out.npz"]  # noqa: S108
    with pytest.raises(ContainerError) as caught:
        engine.containers.run(runtime, command=command, stderr=True, **SETTINGS)
    assert caught.value.exit_status == 3
    assert b"no CUDA device on this machine" in caught.value.stderr
