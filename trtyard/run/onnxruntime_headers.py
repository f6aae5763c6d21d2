"""The headers of ONNX Runtime's C API, from a Debian package that is locked here by its hash."""

import shutil
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError
from trtyard.lock.debs import download_deb
from trtyard.lock.file import Deb
from trtyard.system.folders import held_folder, make_own
from trtyard.system.processes import check
from trtyard.system.terminal import say
from trtyard.system.uv import YARD

# The oldest release that Debian has: a library runs in the ONNX Runtime of its headers and in newer
# ones.
PACKAGE = Deb(
    name="libonnxruntime-dev",
    version="1.21.0+dfsg-1",
    architecture="amd64",
    stage="unpacked",
    sha256="14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08",
    size=85340,
)
SUITE = "trixie"
_INCLUDE = Path("usr", "include", "onnxruntime")


def onnxruntime_headers() -> Path:
    """Return the folder with ``onnxruntime_cxx_api.h``; download and unpack it first if needed.

    Raises:
        EnvironmentLacksError: the package cannot be downloaded or unpacked on this machine.
        IntegrityError: its hash differs.
    """
    make_own(YARD)
    folder = YARD / "headers"
    folder.mkdir(exist_ok=True)
    whole = folder / f"onnxruntime-{PACKAGE.sha256[:16]}"
    with held_folder(folder, waiting="waiting for another run that downloads headers"):
        if not whole.is_dir():
            partial = whole.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                _unpack_into(partial)
                partial.rename(whole)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return whole / _INCLUDE


def _unpack_into(folder: Path) -> None:
    say(f"downloading {PACKAGE.name} {PACKAGE.version} (once)")
    try:
        deb = download_deb(PACKAGE, SUITE, folder)
    except EnvironmentLacksError as error:
        raise EnvironmentLacksError(
            error.message,
            "give the headers of ONNX Runtime 1.21 or newer: --headers FOLDER, which has "
            "onnxruntime_cxx_api.h",
        ) from None
    check(["dpkg-deb", "--extract", deb, folder])
    deb.unlink()
