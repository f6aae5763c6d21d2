"""What holds for all tests of the pipeline."""

import os

import pytest

# One thread each: the models here are small, and threads that wait for each other take four times
# the processor time where other work runs too. Before a test imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Return the library of ONNX Runtime's custom ops with its CPU kernels, compiled once."""
    from custom_ops_library import library_for_the_cpu

    return library_for_the_cpu(tmp_path_factory.mktemp("onnxruntime"))
