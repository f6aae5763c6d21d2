"""Build pycuda into a row's environment on the host if the machine has a CUDA device.

pycuda is published as source only. It is built from the locked source with the row's CUDA headers,
without CURAND, and linked against an empty library named libcuda; the driver's library is loaded at
run time. The machine needs a C++ compiler and Python's headers. If the build fails, the conversion
continues, and the report gives the reason why TensorRT was not run.
"""

import ctypes
import shutil
import tempfile
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError, TrtyardError
from trtyard.core.files import write_json, write_text
from trtyard.lock.file import Artifact, requirements_text
from trtyard.run.environment import RowEnvironment
from trtyard.system.folders import held_folder
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say
from trtyard.system.uv import explained, uv, uv_environment

DRIVER_SONAME = "libcuda.so.1"
_DEVICE_NODES = ("/dev/nvidiactl", "/dev/dxg")  # Linux; WSL
_HEADERS = "import sysconfig; print(sysconfig.get_path('include'))"


def has_cuda_device() -> bool:
    """Return whether this machine has a device node or the driver library for CUDA."""
    if any(Path(node).exists() for node in _DEVICE_NODES):
        return True
    try:
        ctypes.CDLL(DRIVER_SONAME)
    except OSError:
        return False
    return True


def build_pycuda(environment: RowEnvironment, sdists: tuple[Artifact, ...]) -> None:
    """Build the row's pycuda into ``environment`` if it is missing; only warn if that fails."""
    sdist = next((one for one in sdists if one.name == "pycuda"), None)
    if sdist is None:
        return
    waiting = "waiting for another run that builds pycuda"
    with held_folder(environment.folder, waiting=waiting) as held:
        if (environment.site_packages / f"pycuda-{sdist.version}.dist-info").is_dir():
            return
        try:
            _require_compiler(environment)
            say(f"building pycuda {sdist.version} for the CUDA device (once, about three minutes)")
            _build(environment, sdist, held)
            problem = None
        except TrtyardError as error:
            say(f"warning: cannot build pycuda, so TensorRT is not run: {error}")
            problem = f"cannot build pycuda: {error.message}"
        facts = environment.row.facts(environment.python_version)
        write_json(environment.row_file, {**facts, "pycuda_problem": problem})


def _require_compiler(environment: RowEnvironment) -> None:
    include = output_of([environment.python, "-I", "-c", _HEADERS]).strip()
    missing = [] if shutil.which("g++") else ["g++"]
    if not Path(include, "Python.h").is_file():
        missing.append(f"python{environment.python_version}-dev")
    if missing:
        names = " ".join(missing)
        raise EnvironmentLacksError(f"not installed: {names}", f"sudo apt-get install {names}")


def _build(environment: RowEnvironment, sdist: Artifact, held: int) -> None:
    with tempfile.TemporaryDirectory(prefix="trtyard-pycuda-") as name:
        folder = Path(name)
        stub: list[Word] = ["g++", "-shared", f"-Wl,-soname,{DRIVER_SONAME}", "-x", "c++"]
        check([*stub, "/dev/null", "-o", folder / "libcuda.so"])
        toolkit = environment.site_packages / "nvidia" / "cu13"
        # pycuda's setup reads this file from the home folder.
        write_text(
            folder / ".aksetup-defaults.py",
            f"CUDA_ROOT = {str(toolkit)!r}\n"
            "CUDA_ENABLE_CURAND = False\n"
            f"CUDADRV_LIB_DIR = [{str(folder)!r}]\n",
        )
        write_text(folder / "pycuda.txt", requirements_text((sdist,)))
        env = uv_environment(environment.folder)
        # Some linkers drop a library without used symbols, such as the empty one.
        env["LDFLAGS"] = "-Wl,--no-as-needed"
        # A separate cache: uv must not reuse a pycuda that was built with other settings.
        env.update(HOME=name, UV_CACHE_DIR=str(folder / "cache"), UV_LINK_MODE="copy")
        install: list[Word] = [uv(), "pip", "install", "--python", environment.python]
        install += ["--no-deps", "--no-build-isolation", "--no-binary", "pycuda"]
        install += ["--require-hashes", "-r", folder / "pycuda.txt"]
        try:
            # Captured: the build prints thousands of warnings.
            output_of(install, cwd=folder, env=env, pass_fds=(held,))
        except CommandError as error:
            if "failed to build" in error.tail.lower():
                raise EnvironmentLacksError(error.message) from None
            raise explained(error, environment.folder) from None
