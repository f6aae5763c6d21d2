"""Docker images of one exact PyTorch, ONNX and TensorRT toolchain each, and conversions in them."""

__version__ = "0.2.0"  # pyproject.toml has the same
