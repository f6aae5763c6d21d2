"""torch.compile in a temporary place, from a Python whose path has spaces."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import torch
from torch._inductor import config
from trtyard.pipeline.latency.inductor import temporary_inductor

assert " " in torch.__file__
model, row = torch.nn.Linear(4, 2), torch.ones(1, 4)
with temporary_inductor(), config.patch({"cpp.cxx": (None, "g++")}), torch.no_grad():
    torch.testing.assert_close(torch.compile(model)(row), model(row))
"""


@pytest.mark.slow
def test_compiles_under_a_path_with_spaces_and_leaves_nothing(tmp_path):
    environment = tmp_path / "a (b, é)"
    environment.symlink_to(sys.prefix)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
    # Bytecode by the path with spaces would be compiled for this test alone.
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "PYTHONPYCACHEPREFIX"):
        variables.pop(name, None)
    python = environment / "bin" / "python"
    subprocess.run([python, "-c", PROGRAM], env=variables, check=True)
    files = [path for path in temporary.rglob("*") if path.is_file()]
    assert files == []
