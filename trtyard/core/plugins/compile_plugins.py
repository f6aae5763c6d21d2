"""Compile the kernel cores, and the C++ shells if headers of TensorRT or ONNX Runtime are given.

The same sources, compiler and architectures give the same bytes in any folder. For that, each file
is compiled by its relative name in a copy of the source folder; nvcc keeps its temporary files,
whose names end up in the objects, next to the object; and g++ links, because nvcc would write the
toolkit's path into the library.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from trtyard.core.errors import UsageError
from trtyard.core.files import sha256_of, write_json, written_whole
from trtyard.core.plugins.cuda_compiler import (
    ARCHITECTURE,
    code_generation,
    find_nvcc,
    host_compiler,
    include_folders,
    library_folders,
    nvcc_command,
    require_host_compiler,
    run_compiler,
    taken_by,
)

__all__ = [
    "LIBRARY_NAME",
    "ONNXRUNTIME",
    "ONNXRUNTIME_LIBRARY_NAME",
    "SHELL_LIBRARY_NAME",
    "SHELL_LIBRARY_NAME_V2",
    "CompiledPlugins",
    "compile_libraries",
    "compile_plugins",
    "find_nvcc",
    "shells_for",
]

LIBRARY_NAME = "libtrtyard_plugins.so"
SHELL_LIBRARY_NAME = "libtrtyard_plugins_v3.so"
SHELL_LIBRARY_NAME_V2 = "libtrtyard_plugins_v2.so"
ONNXRUNTIME_LIBRARY_NAME = "libtrtyard_ort.so"

KERNELS = "*/*.cu"
ONNXRUNTIME = "onnxruntime"
SHELLS = {"cpp-v2": "*/*_v2.cpp", "cpp-v3": "*/*_v3.cpp", ONNXRUNTIME: "*/*_ort.cpp"}
SOURCE_SUFFIXES = (".cu", ".cuh", ".cpp", ".h")

ONNXRUNTIME_HEADER = "onnxruntime_cxx_api.h"
MAJOR = re.compile(r"#define\s+(?:NV_TENSORRT|TRT)_MAJOR(?:_ENTERPRISE)?\s+(\d+)")

# nvcc passes its working folder to g++ unquoted.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")

# Fixed, because g++ derives names of hidden symbols from it.
RANDOM_SEED = "-frandom-seed=trtyard"

KERNEL_FLAGS = (
    "-std=c++14",
    "-O3",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-fvisibility-inlines-hidden,-Wall,-Wextra",
    "-Xcompiler=" + RANDOM_SEED,
)
# Keeps the build folder's path out of the library; used if the compiler has the flag.
OPTIONAL_KERNEL_FLAGS = ("--objdir-as-tempdir",)
SHELL_FLAGS = (
    "-std=c++17",
    "-O2",
    "-fPIC",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    "-Wall",
    "-Wextra",
    RANDOM_SEED,
)
# ONNX Runtime's shells also compute on the CPU, with the arithmetic of the kernels.
ONNXRUNTIME_FLAGS = ("-O3", "-ffp-contract=off")
# The CUDA runtime is linked in and hidden: torch's and TensorRT's own copies stay apart from it.
LINK_FLAGS = ("-shared", "-Wl,--exclude-libs=ALL", "-Wl,--strip-all", "-Wl,--no-undefined")
LINK_LIBRARIES = ("-lcudart_static", "-ldl", "-lpthread", "-lrt")


class CompiledPlugins(NamedTuple):
    """The library from ``compile_plugins``, compiled or already there."""

    library: Path
    sha256: str
    cached: bool


def compile_plugins(
    sources: Path,
    library: Path,
    architectures: Sequence[str],
    nvcc: Optional[Path] = None,
    headers: Optional[Path] = None,
) -> CompiledPlugins:
    """Compile every ``.cu`` file in ``sources`` into the shared library ``library``.

    ``architectures`` are compute capabilities without the dot, such as ``["80", "120"]``; each gets
    machine code, the highest also PTX for later GPUs. ``["native"]`` is this machine's GPU. Code
    for 12.0 runs unchanged on 12.1. With ``headers``, a folder with ``NvInfer.h`` or with
    ``onnxruntime_cxx_api.h``, the library also gets the C++ shells for that release
    (``shells_for``), so that TensorRT or ONNX Runtime can load it.

    The hash of all inputs is written to ``<library>.json``; if it is unchanged, nothing is
    compiled. Raises EnvironmentLacksError (no nvcc, no g++, an architecture that this nvcc does not
    support, another fault of the machine), UsageError (wrong arguments), ConversionError (a
    compiler error).
    """
    return compile_libraries(sources, {library: headers}, architectures, nvcc)[0]


def compile_libraries(
    sources: Path,
    libraries: Mapping[Path, Optional[Path]],
    architectures: Sequence[str],
    nvcc: Optional[Path] = None,
) -> List[CompiledPlugins]:
    """Compile several libraries, each with its ``headers`` or None, and each kernel only once.

    See ``compile_plugins`` for the arguments and errors.
    """
    units = {one: _units(sources, architectures, it) for one, it in libraries.items()}
    compiler = find_nvcc() if nvcc is None else nvcc
    require_host_compiler()
    facts = {
        one: _facts(sources, units[one], architectures, compiler, headers)
        for one, headers in libraries.items()
    }
    cached = {one: _sha256_if_current(one, facts[one]) for one in libraries}
    needed = [one for one in libraries if not cached[one]]
    if needed:
        wanted = [_Wanted(one, units[one], libraries[one]) for one in needed]
        _compile(sources, wanted, architectures, compiler)
    found = []
    for one in libraries:
        digest = cached[one] or sha256_of(one)
        if one in needed:
            write_json(_note_of(one), dict(facts[one], sha256=digest))
        found.append(CompiledPlugins(one, digest, one not in needed))
    return found


class _Wanted(NamedTuple):
    """A library to compile, its units relative to the sources, and the shells' headers."""

    library: Path
    units: List[Path]
    headers: Optional[Path]


def _compile(
    sources: Path, wanted: Sequence[_Wanted], architectures: Sequence[str], compiler: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="trtyard-plugins-", dir=_plain_folder()) as name:
        folder = Path(name)
        # A copy in a plain path: nvcc passes its folder to g++ unquoted, so a space in it, or a
        # comma in a list of -Xcompiler, would end the word.
        own = folder / "plugins"
        shutil.copytree(str(sources), str(own))
        maps = taken_by(["g++"], [f"-ffile-prefix-map={folder}=build"], "c++")
        nvcc_with_parts = nvcc_command(compiler)
        kernel = [*nvcc_with_parts, *KERNEL_FLAGS, *code_generation(architectures)]
        kernel += taken_by(nvcc_with_parts, OPTIONAL_KERNEL_FLAGS, "cu")
        kernel += [f"-Xcompiler={one}" for one in maps]
        commands: Dict[str, List[str]] = {}  # keyed by the object's name
        objects: Dict[Path, List[str]] = {}
        for number, (library, units, headers) in enumerate(wanted):
            shell = ["g++", *SHELL_FLAGS, *maps]
            if headers is not None:
                if shells_for(headers) == ONNXRUNTIME:
                    shell += ONNXRUNTIME_FLAGS
                shell += ["-isystem", str(headers.resolve()), *include_folders(compiler)]
            objects[library] = []
            for unit in units:
                made = "-".join(unit.parts) + ".o"
                command = kernel
                if unit.suffix != ".cu":  # its object depends on the headers
                    made, command = f"{number}-{made}", shell
                output = ["-c", unit.as_posix(), "-o", str(folder / made)]
                commands[made] = [*command, "-Iinclude", "-I.", *output]
                objects[library].append(made)

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for _ in pool.map(lambda command: run_compiler(command, own), commands.values()):
                pass  # raises the first error of a unit
        for library in objects:
            with written_whole(library) as partial:
                link = ["g++", *LINK_FLAGS, "-o", str(partial.resolve()), *objects[library]]
                run_compiler([*link, *library_folders(compiler), *LINK_LIBRARIES], folder)


def _plain_folder() -> str:
    """Return the temporary folder, or another one if its path has a space or special character."""
    folders = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]  # noqa: S108 - made safely
    plain = [each for each in folders if PLAIN_PATH.fullmatch(each) and os.access(each, os.W_OK)]
    return (plain or folders)[0]


def _units(sources: Path, architectures: Sequence[str], headers: Optional[Path]) -> List[Path]:
    """Return the files to compile, relative to ``sources``, after checking the arguments."""
    kernels = sorted(path.relative_to(sources) for path in sources.glob(KERNELS))
    if not kernels:
        raise UsageError(
            f"{sources}: no kernels ({KERNELS}) in this folder",
            "give the plugins folder of the trtyard sources",
        )
    if not architectures:
        raise UsageError("no GPU architecture given", 'give at least one, such as "80"')
    for architecture in architectures:
        if ARCHITECTURE.fullmatch(architecture) is None:
            raise UsageError(
                f"{architecture!r} is no GPU architecture",
                'write the compute capability without its dot, such as "80" for 8.0',
            )
    if headers is None:
        return kernels
    pattern = SHELLS[shells_for(headers)]
    return kernels + sorted(path.relative_to(sources) for path in sources.glob(pattern))


def shells_for(headers: Path) -> str:
    """Return which C++ shells the headers in this folder need: "cpp-v2", "cpp-v3", "onnxruntime".

    V2 is for TensorRT before 10. TensorRT for RTX, whose releases start at 1, supports V3 only.
    Raises UsageError: neither ``NvInfer.h`` and its version nor ONNX Runtime's header is there.
    """
    if (headers / ONNXRUNTIME_HEADER).is_file():
        return ONNXRUNTIME
    hint = "give the include folder of the TensorRT release that will load the plugins"
    if not (headers / "NvInfer.h").is_file():
        raise UsageError(f"{headers}: NvInfer.h is not in this folder", hint)
    try:
        text = (headers / "NvInferVersion.h").read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the version of the headers: {error}", hint) from error
    # Since 11, NV_TENSORRT_MAJOR is defined by another macro in the same file.
    found = MAJOR.search(text)
    if found is None:
        raise UsageError(f"{headers / 'NvInferVersion.h'} has no major version", hint)
    return "cpp-v2" if 5 <= int(found.group(1)) < 10 else "cpp-v3"


def _facts(
    sources: Path,
    units: Sequence[Path],
    architectures: Sequence[str],
    compiler: Path,
    headers: Optional[Path],
) -> Dict[str, object]:
    """Return the facts that the library depends on; ``inputs`` is the hash of all inputs."""
    files = sorted(path for path in sources.rglob("*") if path.suffix in SOURCE_SUFFIXES)
    named: List[Tuple[str, Path]] = [(path.relative_to(sources).as_posix(), path) for path in files]
    flags = [*KERNEL_FLAGS, *OPTIONAL_KERNEL_FLAGS, *LINK_FLAGS, *LINK_LIBRARIES]
    if headers is not None:
        named += [("headers/" + path.name, path) for path in sorted(headers.glob("*.h"))]
        flags += SHELL_FLAGS
        flags += ONNXRUNTIME_FLAGS if shells_for(headers) == ONNXRUNTIME else ()
    facts: Dict[str, object] = {
        "architectures": list(architectures),
        "compiler": run_compiler([str(compiler), "--version"], sources).strip().splitlines()[-1],
        "host_compiler": run_compiler(["g++", "--version"], sources).splitlines()[0],
        "kernel_host_compiler": run_compiler([host_compiler(compiler), "--version"], sources)
        .strip()
        .splitlines()[0],
        "flags": flags,
        "units": [unit.as_posix() for unit in units],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, path in named:
        digest.update(f"{name} {sha256_of(path)}\n".encode())
    facts["inputs"] = digest.hexdigest()
    return facts


def _note_of(library: Path) -> Path:
    return library.with_name(library.name + ".json")


def _sha256_if_current(library: Path, facts: Mapping[str, object]) -> Optional[str]:
    """Return the library's hash if its note has the same inputs and this hash, else None."""
    known = _read_note(_note_of(library))
    if known.get("inputs") != facts["inputs"] or not library.is_file():
        return None
    digest = sha256_of(library)
    return digest if known.get("sha256") == digest else None


def _read_note(note: Path) -> Dict[str, object]:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
