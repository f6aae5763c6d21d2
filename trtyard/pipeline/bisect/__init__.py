"""Find the first node of an ONNX file that computes another value than PyTorch."""
