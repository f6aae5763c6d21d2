import platform

import torch

from trtyard import __version__
from trtyard.pipeline.versions import versions


def test_report_names_trtyard_python_and_packages():
    found = versions()
    assert found["trtyard"] == __version__
    assert found["python"] == platform.python_version()
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
