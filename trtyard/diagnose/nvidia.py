"""Compare NVIDIA's driver and the GPUs of this machine with a row's requirements."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from trtyard.core.cuda_device import first_device
from trtyard.core.toolchains import release
from trtyard.diagnose.verdicts import Verdict, ok, problem, unknown
from trtyard.matrix.compatibility import DRIVERS, release_of
from trtyard.matrix.row import Row
from trtyard.run.pycuda import has_cuda_device

_PROC_FILE = Path("/proc/driver/nvidia/version")
_ANSWER_SECONDS = 30  # a sleeping GPU takes several seconds

_SOURCE = "docs.nvidia.com/deploy/cuda-compatibility"
_UPDATE = "update NVIDIA's driver with the distribution's packages, then restart"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU; ``capability`` is its compute capability, such as "8.9"."""

    name: str
    capability: str


def driver_version() -> str | None:
    """Return the driver's version from nvidia-smi, else from the kernel module, else None."""
    found = _ask("driver_version")
    if found:
        return found[0]
    try:
        words = _PROC_FILE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\s", words)
    return match[1] if match else None


def gpus() -> list[Gpu]:
    """Return the GPUs that nvidia-smi lists, else the first one that the CUDA driver reports."""
    listed = []
    for line in _ask("name,compute_cap"):
        name, _, capability = line.rpartition(", ")
        if re.fullmatch(r"\d+\.\d+", capability):
            listed.append(Gpu(name=name, capability=capability))
    if listed:
        return listed
    device = first_device()
    return [Gpu(name=device.name, capability=device.compute_capability)] if device else []


def driver_verdict(row: Row) -> Verdict:
    """Return whether the driver is new enough for the row's CUDA."""
    version = driver_version()
    needed = f"row {row.name} (CUDA {row.cuda}) needs {row.driver}"
    if version is None:
        if has_cuda_device():
            return unknown(
                "driver", f"there is a device, but no version in nvidia-smi or {_PROC_FILE}"
            )
        return problem("driver", f"no NVIDIA driver found; {needed} or newer")
    if release(version) >= release(row.driver):
        return ok("driver", f"{version}; {needed} or newer")
    # An older driver for the same major release runs it "with limited feature-set".
    least = DRIVERS[release_of(row.cuda)[0]]
    if release(version) >= least:
        dotted = ".".join(map(str, least))
        return unknown(
            "driver",
            f"{version}; {needed} or newer; from {dotted} it runs with limits ({_SOURCE})",
            _UPDATE,
        )
    return problem("driver", f"{version} is too old: {needed} or newer", _UPDATE)


def gpu_verdict(row: Row) -> Verdict:
    """Return whether a GPU's compute capability is one that the row's engines run on."""
    found = gpus()
    supported = f"engines of row {row.name} run on {', '.join(row.runs_on)}"
    if not found:
        if has_cuda_device():
            return unknown("GPU", f"there is a device, but the driver lists none; {supported}")
        return problem("GPU", "no CUDA device on this machine", _no_gpu(row))
    words = ", ".join(f"{gpu.name} ({gpu.capability})" for gpu in found)
    if any(gpu.capability in row.runs_on for gpu in found):
        return ok("GPU", words)
    return problem("GPU", f"{words}; {supported}", "choose a row that supports it: ./run matrix")


def _no_gpu(row: Row) -> str:
    if row.flavour == "rtx":
        return "building engines needs no GPU; to run them, use a machine with a supported GPU"
    return "TensorRT builds on a GPU only: use a machine that has one, or --trt rtx"


def _ask(fields: str) -> list[str]:
    """Return nvidia-smi's output, one line per GPU; empty if it is missing or fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    try:
        # Not through trtyard.system.processes: a failure is a normal result here.
        done = subprocess.run(
            [command, f"--query-gpu={fields}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [line.strip() for line in done.stdout.splitlines() if done.returncode == 0 and line]
