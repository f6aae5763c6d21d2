"""The one name for TensorRT's Python module, which each flavour calls differently."""

try:
    import tensorrt_rtx_bindings as trt  # TensorRT for RTX
except ImportError:
    try:
        import tensorrt as trt
    except ImportError:
        import tensorrt_bindings as trt  # what the package tensorrt only gives its name to

__all__ = ["trt"]
