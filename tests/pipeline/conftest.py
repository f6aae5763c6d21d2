"""What holds for all tests of the pipeline."""

import os

import pytest

# One thread each: the models here are small, and threads that wait for each other take four times
# the processor time where other work runs too. Before a test imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def plugin_cache(tmp_path_factory):
    """Return the folder where the first test that needs the plugins compiles them."""
    return tmp_path_factory.mktemp("plugins")
