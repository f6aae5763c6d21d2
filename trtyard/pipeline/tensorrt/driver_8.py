"""TensorRT 8.5 and 8.6: held against the signatures in the bindings of 8.6.1."""

from trtyard.pipeline.tensorrt.driver_before_10 import DriverBefore10
from trtyard.pipeline.tensorrt.driver_named import NamedTensorsDriver


class Driver8(DriverBefore10, NamedTensorsDriver):
    """Networks and plugins as before, engines and loggers as since."""
