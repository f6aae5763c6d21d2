"""PyTorch as the reference on a GPU: what is set for it, and set back afterwards."""

import subprocess

import pytest
import torch

from trtyard.core.errors import EnvironmentLacksError
from trtyard.pipeline.onnxruntime_cuda.reference import in_full_precision
from trtyard.pipeline.ops.cuda import kernels_in_use, use_kernels
from trtyard.pipeline.ops.kernels import ABI_VERSION, _signatures


@pytest.fixture
def libraries(tmp_path):
    """Return two libraries that have every function, and do nothing."""
    code = [f"int {name}(void) {{ return {ABI_VERSION}; }}" for name in _signatures()]
    (tmp_path / "all.c").write_text("\n".join(code))
    made = tmp_path / "libone.so", tmp_path / "libother.so"
    for library in made:
        command = ["gcc", "-shared", "-fPIC", str(tmp_path / "all.c"), "-o", str(library)]
        subprocess.run(command, check=True)
    yield made
    use_kernels(None)


def tf32():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def test_kernels_and_tf32_are_set_back(libraries):
    use_kernels(libraries[0])
    before = tf32()
    with in_full_precision(libraries[1]):
        assert kernels_in_use() == libraries[1]
        assert tf32() == (False, False)
        with in_full_precision(None):
            assert kernels_in_use() == libraries[1]
    assert kernels_in_use() == libraries[0]
    assert tf32() == before


def test_kernels_are_set_back_after_an_error(libraries):
    with pytest.raises(ValueError, match="in the model"), in_full_precision(libraries[0]):
        raise ValueError("in the model")
    assert kernels_in_use() is None


def test_library_of_others_is_refused(tmp_path):
    library = tmp_path / "libempty.so"
    command = ["gcc", "-shared", "-x", "c", "/dev/null", "-o", str(library)]
    subprocess.run(command, check=True)
    with pytest.raises(EnvironmentLacksError, match=r"libempty\.so is not a library of trtyard's"):
        use_kernels(library)
