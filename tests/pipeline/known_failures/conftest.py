import onnx
import pytest


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a model and gives the file."""

    def write(model):
        file = tmp_path / "model.onnx"
        onnx.save(model, file)
        return file

    return write
