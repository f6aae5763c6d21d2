"""Print what TensorRT's bindings offer, as JSON: run by a row's own Python.

Everything is read from the module: classes with their bases and members, and of each function the
signatures that pybind11 wrote into its documentation.
"""

import ctypes
import importlib
import json
import sys

# The slot of the function by which an object gives its memory, in Python's stable interface.
_BF_GETBUFFER = 1

# Python's own, on every class.
_COMMON = {name for kind in (object, type) for name in dir(kind)} - {"__init__"}


def describe(module):
    of_pybind = type(module.Builder)
    classes, functions, values = {}, {}, {}
    for name, value in sorted(vars(module).items()):
        if isinstance(value, of_pybind):
            add_class(classes, value, of_pybind)
        elif isinstance(type(value), of_pybind):
            values[name] = type(value).__qualname__
        elif callable(value) and not name.startswith("_"):
            functions[name] = value.__doc__ or ""
    return {
        "version": module.__version__,
        "prefix": of_pybind_module(module) + ".",
        "classes": classes,
        "functions": functions,
        "values": values,
    }


def of_pybind_module(module):
    return module.Builder.__module__


def add_class(classes, kind, of_pybind):
    if kind.__qualname__ in classes:
        return
    members = {}
    described = {
        "bases": [base.__qualname__ for base in kind.__bases__ if isinstance(base, of_pybind)],
        "members": members,
        "gives_memory": gives_memory(kind),
    }
    for base in kind.__bases__:
        if isinstance(base, of_pybind):
            add_class(classes, base, of_pybind)
    classes[kind.__qualname__] = described
    for name, value in sorted(vars(kind).items()):
        if isinstance(value, of_pybind):
            add_class(classes, value, of_pybind)
            members[name] = {"kind": "class", "of": value.__qualname__}
        elif isinstance(type(value), of_pybind):
            members[name] = {"kind": "value", "of": type(value).__qualname__}
        elif isinstance(value, property):
            doc = (value.fget.__doc__ or "").strip() if value.fget else ""
            members[name] = {"kind": "property", "doc": doc, "settable": value.fset is not None}
        elif name not in _COMMON and callable(value):
            members[name] = {"kind": "method", "doc": (value.__doc__ or "").strip()}


def gives_memory(kind):
    """Tell whether ``bytes(x)`` of an object of this class copies its memory."""
    get_slot = ctypes.pythonapi.PyType_GetSlot
    get_slot.restype, get_slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    return get_slot(kind, _BF_GETBUFFER) is not None


if __name__ == "__main__":
    json.dump(describe(importlib.import_module(sys.argv[1])), sys.stdout)
