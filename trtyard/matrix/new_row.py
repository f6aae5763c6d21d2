"""Makes a new row from an existing one with another TensorRT, and checks it; writes nothing."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType

from trtyard.core.errors import UsageError
from trtyard.matrix.compatibility import DRIVERS, TENSORRT, Release, release_of
from trtyard.matrix.row import Row
from trtyard.matrix.rules import problems

_TENSORRT_PACKAGE = re.compile(r"tensorrt(?P<rtx>-rtx)?(-cu\d+)?-(?P<part>bindings|libs)")
_FIRST_BY_CUDA = (10, 0)  # the first TensorRT whose package names include the CUDA release


def tensorrt_packages(release: Release, flavour: str, cuda: str) -> dict[str, str]:
    """Return the names of TensorRT's Python packages by part: bindings and libs."""
    by_cuda = flavour == "rtx" or release >= _FIRST_BY_CUDA
    infix = ("-rtx" if flavour == "rtx" else "") + (f"-cu{cuda.split('.')[0]}" if by_cuda else "")
    return {part: f"tensorrt{infix}-{part}" for part in ("bindings", "libs")}


def row_like(
    like: Row,
    *,
    name: str,
    tensorrt: str,
    packaged: str,
    pythons: Collection[str],
    python: str = "",
    cuda: str = "",
    opset: int | None = None,
    torch: str = "",
    cuda_packages: Mapping[str, str] = MappingProxyType({}),
) -> Row:
    """Return a copy of ``like`` with another name, another TensorRT and the values given.

    ``packaged`` is the version of TensorRT's Python packages: the release, perhaps with .postN.
    ``pythons`` are the Pythons that these have wheels for. ``cuda_packages`` are the new pins of
    CUDA's own Python packages. GPUs and Pythons that the release does not support are left out.
    If a rule rejects the row, ``UsageError`` names the first such rule.
    """
    refuse_bound(like)
    python, cuda, torch = python or like.python, cuda or like.cuda, torch or like.packages["torch"]
    names = tensorrt_packages(release_of(tensorrt), like.flavour, cuda)
    known = TENSORRT.get((like.flavour, release_of(tensorrt)))
    supported = known.capabilities if known else ()
    pins = {**cuda_packages, "torch": torch}
    if torch != like.packages["torch"]:
        pins["torchvision"] = torchvision_of(torch)

    def renamed(name: str) -> str:
        match = _TENSORRT_PACKAGE.fullmatch(name)
        return names[match["part"]] if match else name

    def pinned(packages: Mapping[str, str]) -> dict[str, str]:
        return {
            renamed(name): packaged
            if _TENSORRT_PACKAGE.fullmatch(name)
            else pins.get(name, version)
            for name, version in packages.items()
        }

    hosts = tuple(dict.fromkeys(python if one == like.python else one for one in like.host_pythons))
    hosts = tuple(one for one in hosts if one in pythons)
    row = replace(
        like,
        name=name,
        tensorrt=tensorrt,
        python=python,
        cuda=cuda,
        nvcc=cuda if like.nvcc == like.cuda else like.nvcc,
        driver=_driver(like, cuda),
        opset=like.opset if opset is None else opset,
        runs_on=tuple(one for one in like.runs_on if not supported or release_of(one) in supported),
        host_pythons=hosts,
        image=replace(
            like.image,
            compile_with=tuple(map(renamed, like.image.compile_with)),
            leave_out=tuple(map(renamed, like.image.leave_out)),
            runtime=tuple(map(renamed, like.image.runtime)),
        ),
        packages=pinned(like.packages),
        packages_on={
            one: pinned(pins) for one, pins in like.packages_on.items() if one in (python, *hosts)
        },
        gpu=like.gpu if (cuda, python) == (like.cuda, like.python) else {},
        vendor_packages=pinned(like.vendor_packages),
        public_pins={},  # the pins of ``like`` are for files of another release
    )
    for key, reason in problems(row):
        raise UsageError(
            f"row {name} cannot be like {like.name}: {key} {reason}",
            "choose another release or option, or another --like; see: ./run row list --available",
        )
    return row


def torchvision_of(torch: str) -> str:
    """Return the torchvision released with this torch: same patch number, see ``rules``."""
    major, minor = release_of(torch)
    patch = torch.split(".")[2] if torch.count(".") > 1 else "0"
    return f"0.{minor + (1 if major == 1 else 15)}.{patch}"


def refuse_bound(like: Row) -> None:
    """Raise ``UsageError`` if parts of the row's TensorRT are not in a package index."""
    if like.tensorrt_from not in ("packages", "vendor-wheels"):
        reason = f"has TensorRT from {like.tensorrt_from}, not from Python packages"
    elif like.parser != "stock":
        reason = "builds the parser of its TensorRT release from patched source"
    else:
        return
    raise UsageError(
        f"a new row cannot be like {like.name}, which {reason}",
        "choose another --like: ./run row list",
    )


def _driver(like: Row, cuda: str) -> str:
    least = DRIVERS.get(release_of(cuda)[0])
    if release_of(cuda)[0] == release_of(like.cuda)[0] or least is None:
        return like.driver
    return ".".join(f"{one:02d}" for one in least)
