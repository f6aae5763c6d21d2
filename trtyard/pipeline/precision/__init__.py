"""Reduced precisions: model.onnx rewritten to fp16, bf16, int8 and fp8, and how each is judged."""
