"""The argument types of the kernels' C interface."""

import ctypes

INT = ctypes.c_int32
FLOAT = ctypes.c_float
POINTER = ctypes.c_void_p
SIZE = ctypes.c_size_t
