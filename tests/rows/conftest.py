"""What several of these tests need."""

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.row_and_lock import row_and_lock
from trtyard.run.environment import make_environment
from trtyard.system.interpreters import find_python


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
