"""The CUDA compiler of this environment: where it is, what it needs, how it is run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Sequence, Tuple

from trtyard.pipeline.errors import ConversionError, EnvironmentLacksError

CUDA_WHEEL_FOLDER = Path("nvidia") / "cu13"  # where NVIDIA's CUDA 13 wheels put a whole toolkit
CUDA_WHEELS = "nvidia-cuda-nvcc nvidia-cuda-crt nvidia-nvvm nvidia-cuda-runtime nvidia-cuda-cccl"

NATIVE = "native"  # the architecture of this machine's GPU
ARCHITECTURE = re.compile(NATIVE + r"|[1-9][0-9]{1,2}[af]?")

LAST_LINES = 30


def find_nvcc() -> Path:
    """Return the CUDA compiler: this environment's wheels, then ``CUDA_HOME``, then ``PATH``.

    Raises EnvironmentLacksError where there is none.
    """
    candidates = [Path(folder) / CUDA_WHEEL_FOLDER / "bin" / "nvcc" for folder in sys.path]
    if os.environ.get("CUDA_HOME"):
        candidates.append(Path(os.environ["CUDA_HOME"]) / "bin" / "nvcc")
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    on_path = shutil.which("nvcc")
    if on_path is None:
        raise EnvironmentLacksError(
            "the CUDA compiler nvcc is not in this Python environment, in CUDA_HOME or on PATH",
            f"install it: pip install {CUDA_WHEELS}   (or Debian's nvidia-cuda-toolkit)",
        )
    return Path(on_path).resolve()


def require_host_compiler() -> None:
    """Raise EnvironmentLacksError where g++, which nvcc needs, is not on ``PATH``."""
    if shutil.which("g++") is None:
        raise EnvironmentLacksError(
            "nvcc needs the C++ compiler g++, which is not on PATH",
            "install it: sudo apt-get install --no-install-recommends g++ libc6-dev",
        )


def toolkit_of(compiler: Path) -> Path:
    """Return the toolkit's folder, as nvcc tells it: the nvcc on PATH may be a wrapper script."""
    command = [str(compiler), "--dryrun", "-E", "-x", "cu", os.devnull]
    for line in run_compiler(command, Path()).splitlines():
        found = re.match(r"#\$ TOP=(.+)", line)
        if found is not None:
            return Path(found.group(1)).resolve()
    raise EnvironmentLacksError(
        f"{compiler} does not say where its toolkit is", "set CUDA_HOME to the toolkit's folder"
    )


def library_folders(compiler: Path) -> List[str]:
    """Return g++'s flags for the CUDA runtime: toolkits differ in where they keep it."""
    toolkit = toolkit_of(compiler)
    folders = [toolkit / "lib64", toolkit / "lib", *sorted(toolkit.glob("targets/*/lib"))]
    found = [folder for folder in folders if (folder / "libcudart_static.a").is_file()]
    return [f"-L{folder}" for folder in found[:1]]  # none: a distribution's, on the linker's path


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
    """Return those of ``flags`` that the compiler knows: a row's own may be older than they are.

    ``-ffile-prefix-map``, say, came with GCC 8, and row 7.0 has GCC 7.
    """
    nothing = ["-E", "-x", language, os.devnull]
    found = []
    for flag in flags:
        try:
            run_compiler([*compiler, flag, *nothing], Path())
        except ConversionError:
            continue
        found.append(flag)
    return found


def run_compiler(command: Sequence[str], folder: Path) -> str:
    """Run ``command`` in ``folder``; return what it printed, or raise with its last lines."""
    done = subprocess.run(
        list(command),
        cwd=str(folder),
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
            f"this CUDA compiler does not know an architecture that was asked for:\n{lines}",
            f"see what it knows: {command[0]} --list-gpu-arch",
        )
    raise ConversionError(f"compiling the plugins failed (rc {done.returncode}):\n{lines}")
