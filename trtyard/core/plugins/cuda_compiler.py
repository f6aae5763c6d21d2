"""Find and run the CUDA compiler of this environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from trtyard.core.errors import ConversionError, EnvironmentLacksError
from trtyard.core.machine_faults import COMPILER, shows

CUDA_WHEEL_FOLDER = Path("nvidia") / "cu13"  # where NVIDIA's CUDA 13 wheels put the toolkit
CUDA_WHEELS = "nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl"

# Where Debian's nvidia-cuda-toolkit has nvcc and its private files, relative to usr.
DEBIAN_FOLDER = Path("lib") / "nvidia-cuda-toolkit"
SYSTEM = Path("/usr")

NATIVE = "native"  # the architecture of this machine's GPU
ARCHITECTURE = re.compile(NATIVE + r"|[1-9][0-9]{1,2}[af]?")

FLAG_VARIABLES = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")
LAST_LINES = 30


def find_nvcc() -> Path:
    """Return the CUDA compiler: this environment's wheels, then ``CUDA_HOME``, then ``PATH``.

    Raises EnvironmentLacksError if there is none.
    """
    homes = [Path(folder) / CUDA_WHEEL_FOLDER for folder in sys.path]
    if os.environ.get("CUDA_HOME"):
        homes.append(Path(os.environ["CUDA_HOME"]))
    for home in homes:
        found = nvcc_in(home)
        if found is not None:
            return found
    on_path = shutil.which("nvcc")
    if on_path is None:
        raise EnvironmentLacksError(
            "the CUDA compiler nvcc is not in this Python environment, in CUDA_HOME or on PATH",
            f"install it: pip install {CUDA_WHEELS}   (or Debian's nvidia-cuda-toolkit)",
        )
    return _behind(Path(on_path))


def nvcc_in(home: Path) -> Optional[Path]:
    """Return the nvcc in a toolkit's folder or in a folder of unpacked Debian packages, or None."""
    for candidate in (home / "bin" / "nvcc", home / "usr" / "bin" / "nvcc"):
        if candidate.is_file():
            return _behind(candidate)
    return None


def _behind(nvcc: Path) -> Path:
    """Return the program that Debian's ``usr/bin/nvcc`` starts; any other nvcc unchanged.

    Debian's is a script with a fixed path, which is wrong if the package is unpacked elsewhere.
    """
    program = nvcc.absolute().parents[1] / DEBIAN_FOLDER / "bin" / "nvcc"
    return (program if program.is_file() else nvcc).resolve()


def debian_root(nvcc: Path) -> Optional[Path]:
    """Return the ``usr`` folder of an nvcc from Debian's package, or None for any other nvcc."""
    folders = nvcc.parents
    is_debian = len(folders) > 3 and nvcc == folders[3] / DEBIAN_FOLDER / "bin" / "nvcc"
    return folders[3] if is_debian else None


def nvcc_command(nvcc: Path) -> List[str]:
    """Return the command for nvcc, with the folders of an unpacked Debian package if it is one."""
    root = debian_root(nvcc)
    if root is None or root == SYSTEM:
        return [str(nvcc)]
    parts = ["-ldir", str(root / DEBIAN_FOLDER / "libdevice"), "-isystem", str(root / "include")]
    return [str(nvcc), *parts]


def host_compiler(nvcc: Path) -> str:
    """Return the C++ compiler that nvcc calls; Debian's nvcc has its own link to a suitable g++."""
    root = debian_root(nvcc)
    return "g++" if root is None else str(root / DEBIAN_FOLDER / "bin" / "g++")


def require_host_compiler() -> None:
    """Raise EnvironmentLacksError if g++, which nvcc needs, is not on ``PATH``."""
    if shutil.which("g++") is None:
        words = "nvcc needs the C++ compiler g++, which is not on PATH"
        raise EnvironmentLacksError(
            words, "install it: sudo apt-get install --no-install-recommends g++ libc6-dev", words
        )


def toolkit_of(compiler: Path) -> Path:
    """Return the toolkit's folder as nvcc reports it; the nvcc on PATH may be a wrapper script."""
    command = [str(compiler), "--dryrun", "-E", "-x", "cu", os.devnull]
    # A dry run of nvcc 11.8 fails with --threads, which an image's build sets for all calls.
    said = run_compiler(command, Path(), unset=FLAG_VARIABLES)
    told = dict(re.findall(r"^#\$ (TOP|_HERE_)=(.+)", said, re.MULTILINE))
    root = debian_root(Path(told.get("_HERE_", "")) / "nvcc")
    if root is not None:
        return root
    if "TOP" in told:
        return Path(told["TOP"]).resolve()
    raise EnvironmentLacksError(
        f"cannot find the toolkit of {compiler}", "set CUDA_HOME to the toolkit's folder"
    )


def include_folders(compiler: Path) -> List[str]:
    """Return g++'s flags for the CUDA runtime's headers; none if they are in /usr/include."""
    toolkit = toolkit_of(compiler)
    return [] if toolkit == SYSTEM else ["-isystem", str(toolkit / "include")]


def library_folders(compiler: Path) -> List[str]:
    """Return g++'s flags for the CUDA runtime library, whose folder differs between toolkits."""
    toolkit = toolkit_of(compiler)
    folders = [toolkit / "lib64", toolkit / "lib", *sorted(toolkit.glob("targets/*/lib"))]
    folders += sorted(toolkit.glob("lib/*-linux-gnu"))
    found = [folder for folder in folders if (folder / "libcudart_static.a").is_file()]
    return [f"-L{folder}" for folder in found[:1]]  # none: on the linker's own path


def code_generation(architectures: Sequence[str]) -> List[str]:
    """Return nvcc's flags for machine code for each architecture and PTX for the highest."""
    if NATIVE in architectures:
        return ["-arch=native"]
    flags = [f"--generate-code=arch=compute_{a},code=sm_{a}" for a in architectures]
    newest = max(architectures, key=_capability)
    return [*flags, f"--generate-code=arch=compute_{newest},code=compute_{newest}"]


def _capability(architecture: str) -> Tuple[int, str]:
    digits = architecture.rstrip("af")
    return int(digits), architecture[len(digits) :]


def taken_by(compiler: Sequence[str], flags: Sequence[str], language: str) -> List[str]:
    """Return the ``flags`` that the compiler supports; a row's compiler may be too old for some.

    For example ``-ffile-prefix-map`` needs GCC 8, and row 7.0 has GCC 7.
    """
    nothing = ["-E", "-x", language, os.devnull]
    found = []
    for flag in flags:
        try:
            run_compiler([*compiler, flag, *nothing], Path())
        except (ConversionError, EnvironmentLacksError):
            continue
        found.append(flag)
    return found


def run_compiler(command: Sequence[str], folder: Path, unset: Sequence[str] = ()) -> str:
    """Run ``command`` in ``folder`` without the variables ``unset``; return its output.

    Raises EnvironmentLacksError (unknown GPU architecture, another fault of the machine) or
    ConversionError with its last lines.
    """
    environment = _environment(Path(command[0]))
    done = subprocess.run(
        list(command),
        cwd=str(folder),
        env={name: value for name, value in environment.items() if name not in unset},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        check=False,
    )
    if done.returncode == 0:
        return done.stdout
    lines = "\n".join(done.stdout.splitlines()[-LAST_LINES:])
    if "Unsupported gpu architecture" in lines:
        raise EnvironmentLacksError(
            f"this CUDA compiler does not support a requested architecture:\n{lines}",
            f"list those it supports: {command[0]} --list-gpu-arch",
            lines,
        )
    words = f"compiling the plugins failed (rc {done.returncode}):\n{lines}"
    if any(shows(patterns, lines) for patterns in COMPILER.values()):
        raise EnvironmentLacksError(words, log=lines)
    raise ConversionError(words)


def _environment(program: Path) -> Dict[str, str]:
    """Return the program's environment; an unpacked Debian nvcc needs its folders on PATH."""
    root = debian_root(program)
    if root is None and program.name == "g++":
        root = debian_root(program.with_name("nvcc"))
    if root is None or root == SYSTEM:
        return dict(os.environ)
    folders = [str(program.parent), str(root / "bin"), os.environ.get("PATH", "")]
    return dict(os.environ, PATH=os.pathsep.join(folders))
