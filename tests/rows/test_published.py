"""Each row's torchvision names the address of published weights, with the digits of a hash."""

import json
import subprocess

import pytest

from trtyard.core.known_models import KINDS
from trtyard.fetching.weights import published_file
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.on_host import output_of, pipeline_variables

NAMES = [name for kind in ("classifier", "segmenter", "detector") for name in KINDS[kind].names]
ALL = """
import json, sys
from trtyard.pipeline.torch_support.published import published
names = sys.argv[1].split()
print(json.dumps({name: [one.address for one in published(name)] for name in names}))
"""
OLD_FILE = """
import json, sys, torch, torchvision
from pathlib import Path
from trtyard.core.files import sha256_of
from trtyard.pipeline.models.checkpoint import read_checkpoint
folder = Path(sys.argv[1])
for state in (torchvision.models.squeezenet1_1().state_dict(), {"code": json.loads}):
    torch.save(state, str(folder / "x"))
    file = folder / "x-{}.pth".format(sha256_of(folder / "x")[:8])
    (folder / "x").rename(file)
    try:
        print(len(read_checkpoint(str(file)).state))
    except Exception as error:
        print(type(error).__name__, error)
"""


def printed(environment, code, word):
    command = [str(environment.python), "-c", code, word]
    env = pipeline_variables(environment=environment)
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("row", "lacking"), [("7.0", 62), ("8.6", 0), ("10.16", 0), ("11.3", 0), ("rtx-1.7", 0)]
)
def test_each_row_names_published_weights(environment_of, row, lacking):
    environment = environment_of(row)
    found = json.loads(printed(environment, ALL, " ".join(NAMES)))
    assert len([name for name in NAMES if not found[name]]) == lacking
    for addresses in filter(None, found.values()):
        assert len(published_file(addresses[0]).sha256) >= 8


def test_the_oldest_rows_published_files_are_read_without_code(environment_of, tmp_path):
    number, error, *_ = printed(environment_of("7.0"), OLD_FILE, str(tmp_path)).splitlines()
    assert number == "52"
    assert "is refused: loading it would run code (json.loads)" in error


def test_the_command_prints_one_address(environment_of):
    environment_of("7.0")  # skips without its Python
    row, lock = row_and_lock("7.0")
    text = output_of(row, lock, ["published-weights", "--model", "inception_v3"])
    facts = json.loads(text.splitlines()[-1])
    assert facts["torchvision"] == "0.5.0"
    assert published_file(facts["address"]).name.startswith("inception_v3_google-")
