"""Programs that check what other systems read, and a YAML reader; .ci/install-validators has them.

Without them a test is skipped with the reason; where TRTYARD_REQUIRE_VALIDATORS is 1, it fails.
"""

import json
import os
import subprocess

import pytest

from trtyard.system.uv import ROOT

FOLDER = ROOT / ".venv" / "validators"
REQUIRE = "TRTYARD_REQUIRE_VALIDATORS"
_DOCUMENTS = (
    "import json, sys, yaml\n"
    "class Loader(yaml.SafeLoader): pass\n"
    "Loader.yaml_implicit_resolvers = {\n"  # on is a key of a workflow, and no truth value
    "    first: [one for one in pairs if one[0] != 'tag:yaml.org,2002:bool' or first not in 'oO']\n"
    "    for first, pairs in Loader.yaml_implicit_resolvers.items()}\n"
    "json.dump(list(yaml.load_all(sys.stdin, Loader)), sys.stdout)"
)

# The module of the schema alone: its package imports what only a client needs.
_TRITON = (
    "import importlib.util, json, pathlib, sys\n"
    "from google.protobuf import json_format, text_format\n"
    "folder = importlib.util.find_spec('tritonclient').submodule_search_locations[0]\n"
    "file = pathlib.Path(folder, 'grpc', 'model_config_pb2.py')\n"
    "spec = importlib.util.spec_from_file_location('model_config_pb2', file)\n"
    "schema = importlib.util.module_from_spec(spec)\n"
    "spec.loader.exec_module(schema)\n"
    "config = text_format.Parse(sys.stdin.read(), schema.ModelConfig())\n"
    "options = {'preserving_proto_field_name': True}\n"
    "json.dump(json_format.MessageToDict(config, **options), sys.stdout)"
)


def validate(program, *words):
    """Run one of the programs; return the finished process."""
    _needed()
    path = f"{FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [FOLDER / "bin" / program, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
    )


def triton_config(text):
    """Return a config.pbtxt as plain values, read with Triton's own schema."""
    _needed()
    if not list(FOLDER.glob("lib/python*/site-packages/tritonclient")):
        _missing("the validators are older than requirements/validators.txt")
    done = subprocess.run(
        [FOLDER / "bin" / "python", "-I", "-c", _TRITON], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def documents(text):
    """Return the YAML documents of ``text`` as plain values."""
    _needed()
    done = subprocess.run(
        [FOLDER / "bin" / "python", "-I", "-c", _DOCUMENTS],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def _needed():
    if (FOLDER / "stamp").is_file():
        return
    _missing("no validators here")


def _missing(what):
    reason = f"{what}: .ci/install-validators"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)
