"""ONNX Runtime on the GPU, in a process of its own."""
