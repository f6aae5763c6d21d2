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
    reason = "no validators here: .ci/install-validators"
    if os.environ.get(REQUIRE) == "1":
        pytest.fail(reason)
    pytest.skip(reason)
