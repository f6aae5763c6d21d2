"""Time PyTorch, ONNX Runtime and TensorRT on one model, for ``./run bench``."""
