"""The one name for TensorRT's Python module, which each flavour calls differently."""

try:
    import tensorrt_rtx_bindings as trt  # TensorRT for RTX
except ImportError:
    import tensorrt as trt

__all__ = ["trt"]
