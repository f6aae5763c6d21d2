"""What several of these tests need."""

import pytest

from trtyard.convert import row_and_lock
from trtyard.environments.environment import make_environment
from trtyard.environments.interpreters import find_python
from trtyard.pipeline.errors import EnvironmentLacksError


@pytest.fixture(scope="session")
def environment_of():
    """Return a function that gives a row's environment."""

    def of(name):
        row, lock = row_and_lock(name)
        try:
            find_python(row.host_pythons)
        except EnvironmentLacksError as error:
            pytest.skip(f"{name}: {error.message}")
        return make_environment(row, lock)

    return of
