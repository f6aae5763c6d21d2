"""Libraries that stand where TensorRT's would, so that its bindings can be imported and read.

The bindings on PyPI are the real ones, but link against libraries that are not there. Each function
that they miss is defined here and ends the process: nothing of TensorRT can run by accident.
"""

import re
import subprocess
from pathlib import Path


def make_stand_ins(extension, python, folder, objects=()):
    """Write into ``folder`` the libraries that the bindings' ``extension`` needs beside itself.

    ``python`` is the interpreter that will import it: what that has already is not missing.
    ``objects`` are compiled files that go into them, in place of the functions that they define.
    """
    dynamic = output("readelf", "--dynamic", extension)
    needed = re.findall(r"Shared library: \[(libnv\S+)\]", dynamic)
    symbols = output("nm", "--dynamic", "--undefined-only", extension).splitlines()
    # A version (name@GLIBC_2.14) names the library that has it; `w` may stay undefined.
    undefined = [line.split()[-1] for line in symbols if " U " in line and "@" not in line]
    script = (
        "import ctypes, sys; known = ctypes.CDLL(None);"
        "print(*(name for name in sys.argv[1:] if not hasattr(known, name)))"
    )
    missing = output(python, "-I", "-c", script, *undefined).split()
    # Tables of virtual functions and of types are data, which a function cannot stand for.
    assert needed
    assert missing
    assert not [name for name in missing if name.startswith(("_ZTV", "_ZTI"))]
    lines = [line for one in objects for line in output("nm", "--defined-only", one).splitlines()]
    there = {line.split()[-1] for line in lines}
    source = "void abort(void);\n"
    source += "".join(f"void {one}(void) {{ abort(); }}\n" for one in missing if one not in there)
    folder.mkdir(parents=True, exist_ok=True)
    for name in needed:
        compile_library(source, name, folder / name, objects)
        source, objects = "", ()  # one library has them all
    return folder


def compile_library(source, name, file, objects):
    command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", file]
    command += [*objects, "-x", "c", "-", *(["-lstdc++"] if objects else [])]
    output(*command, given=source)


def output(*command, given=None):
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def extension_in(environment):
    """Return the bindings' extension module in a virtual environment."""
    (extension,) = Path(environment).glob(
        "lib/python3*/site-packages/tensorrt_*bindings/tensorrt*.so"
    )
    return extension
