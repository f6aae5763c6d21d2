"""Rules that reject an impossible row when the matrix is read, each with its reason.

A rule is a function of the row that yields problems: the key and the reason. The facts and their
sources are in ``compatibility``.
"""

from collections.abc import Callable, Iterator

from trtyard.matrix.compatibility import (
    DRIVERS,
    DYNAMO_OPSETS,
    NVCC,
    SUITES,
    TENSORRT,
    TORCH,
    Release,
    release_of,
)
from trtyard.matrix.row import Row

Problem = tuple[str, str]  # a key of the row, and the rest of the sentence after it
Rule = Callable[[Row], Iterator[Problem]]


def problems(row: Row) -> Iterator[Problem]:
    """Yield every problem of the row."""
    for rule in RULES:
        yield from rule(row)


def _torch_has_a_wheel(row: Row) -> Iterator[Problem]:
    for python in row.pythons:
        torch = row.packages_for(python)["torch"]
        known = TORCH.get(release_of(torch))
        if known is None:
            yield "packages.torch", f"is {torch}, {_unknown('TORCH')}"
        elif not known.pythons[0] <= int(python.split(".")[1]) <= known.pythons[1]:
            first, last = known.pythons
            yield (
                "packages.torch",
                f"is {torch}, which has wheels for Python 3.{first} to 3.{last}, not for {python}",
            )


def _torchvision_fits_torch(row: Row) -> Iterator[Problem]:
    """Check torchvision against torch: 0.(N+1) belongs to torch 1.N, 0.(N+15) to 2.N.

    Source: the table of releases in the README of pytorch/vision.
    """
    for python in row.pythons:
        packages = row.packages_for(python)
        major, minor = release_of(packages["torch"])
        wanted = (0, minor + (1 if major == 1 else 15))
        found = release_of(packages["torchvision"])
        if found != wanted:
            yield (
                "packages.torchvision",
                f"is {packages['torchvision']}; torch {packages['torch']} needs {_dotted(wanted)}",
            )


def _torch_shares_cuda(row: Row) -> Iterator[Problem]:
    """Reject two CUDA major releases in one process: they double every library."""
    torch = row.packages["torch"]
    known = TORCH.get(release_of(torch))
    if known is not None and known.cuda[0] != release_of(row.cuda)[0]:
        yield (
            "cuda",
            f"is {row.cuda}, but torch {torch} on PyPI is linked against CUDA"
            f" {_dotted(known.cuda)}",
        )


def _exporter_writes_the_opset(row: Row) -> Iterator[Problem]:
    torch = row.packages["torch"]
    known = TORCH.get(release_of(torch))
    if known is None:
        return
    if row.exporter == "dynamo":
        first, last = DYNAMO_OPSETS
        if not known.dynamo:
            yield "exporter", f"is dynamo, which torch {torch} does not have; use torchscript"
        elif not first <= row.opset <= last:
            yield "opset", f"is {row.opset}; the dynamo exporter writes {first} to {last}"
    elif row.opset > known.torchscript_opset:
        newest = known.torchscript_opset
        yield (
            "opset",
            f"is {row.opset}; the TorchScript exporter of torch {torch} supports up to {newest}",
        )


def _tensorrt_knows_cuda(row: Row) -> Iterator[Problem]:
    known = TENSORRT.get((row.flavour, release_of(row.tensorrt)))
    if known is None:
        yield "tensorrt", f"is {row.tensorrt}, {_unknown('TENSORRT')}"
        return
    majors = {release[0] for release in known.cuda}
    # The plugins link the CUDA runtime statically, so nvcc may be another supported release.
    for key, version in (("cuda", row.cuda), ("nvcc", row.nvcc)):
        cuda = release_of(version)
        if cuda[0] not in majors if known.any_minor else cuda not in known.cuda:
            supported = (
                ", ".join(f"{major}.x" for major in sorted(majors))
                if known.any_minor
                else ", ".join(map(_dotted, known.cuda))
            )
            yield key, f"is {version}; TensorRT {row.tensorrt} is built for CUDA {supported}"


def _tensorrt_takes_the_opset(row: Row) -> Iterator[Problem]:
    known = TENSORRT.get((row.flavour, release_of(row.tensorrt)))
    if known is not None and known.newest_opset is not None and row.opset > known.newest_opset:
        yield (
            "opset",
            f"is {row.opset}; the parser of TensorRT {row.tensorrt} supports up to"
            f" {known.newest_opset}",
        )


def _driver_runs_cuda(row: Row) -> Iterator[Problem]:
    least = DRIVERS.get(release_of(row.cuda)[0])
    if least is None:
        yield "cuda", f"is {row.cuda}, {_unknown('DRIVERS')}"
    elif tuple(map(int, row.driver.split("."))) < least:
        yield (
            "driver",
            f"is {row.driver}; CUDA {row.cuda} needs {'.'.join(map(str, least))} or newer",
        )


def _nvcc_compiles(row: Row) -> Iterator[Problem]:
    known = NVCC.get(release_of(row.nvcc))
    if known is None:
        yield "nvcc", f"is {row.nvcc}, {_unknown('NVCC')}"
        return
    first, last = known
    for one in row.architectures:
        if not first <= int(one) <= last:
            yield (
                "architectures",
                f"has {one}; nvcc of CUDA {row.nvcc} compiles for {first} to {last}",
            )


def _tensorrt_runs_on(row: Row) -> Iterator[Problem]:
    known = TENSORRT.get((row.flavour, release_of(row.tensorrt)))
    compiled = {(int(one[:-1]), int(one[-1])) for one in row.architectures}
    for one in row.runs_on:
        capability = release_of(one)
        if known is not None and known.capabilities and capability not in known.capabilities:
            yield "runs-on", f"has {one}, which TensorRT {row.tensorrt} does not support"
        # Machine code runs on later minor revisions of its architecture: CUDA programming guide.
        if not any(capability[0] == own[0] and own[1] <= capability[1] for own in compiled):
            yield "runs-on", f"has {one}, but no kernel is compiled for it: see architectures"


def _shells_fit_tensorrt(row: Row) -> Iterator[Problem]:
    """Check the plugin interface: V2 in TensorRT 6 to 10, V3 since 10, only V3 in RTX since 1.7.

    TensorRT 11 removed the V2 creators. Tested with RTX 1.4.0.76, 1.5.0.114 and 1.6.1.120: the
    parser inlines the function body of a custom op even if a plugin is registered, and rejects the
    op if it has no body.
    """
    release = release_of(row.tensorrt)
    for shell in row.plugin_shells:
        is_v2 = shell == "cpp-v2"
        has_v2 = row.flavour == "full" and (6, 0) <= release < (11, 0)
        has_v3 = release >= ((1, 7) if row.flavour == "rtx" else (10, 0))
        if not (has_v2 if is_v2 else has_v3):
            yield (
                "plugin-shells",
                f"has {shell}, which TensorRT{' for RTX' if row.flavour == 'rtx' else ''}"
                f" {row.tensorrt} does not support",
            )


def _suite_brings_python(row: Row) -> Iterator[Problem]:
    known = SUITES.get(row.base.suite)
    if known is None:
        yield "base.suite", f"is {row.base.suite}, {_unknown('SUITES')}"
        return
    _, python, glibc = known
    if python != row.python:
        yield "python", f"is {row.python}; {row.base.suite} has {python}"
    if release_of(row.glibc) > glibc:
        yield "glibc", f"is {row.glibc}; {row.base.suite} has {_dotted(glibc)}"


RULES: tuple[Rule, ...] = (
    _torch_has_a_wheel,
    _torchvision_fits_torch,
    _torch_shares_cuda,
    _exporter_writes_the_opset,
    _tensorrt_knows_cuda,
    _tensorrt_takes_the_opset,
    _driver_runs_cuda,
    _nvcc_compiles,
    _tensorrt_runs_on,
    _shells_fit_tensorrt,
    _suite_brings_python,
)


def _dotted(release: Release) -> str:
    return f"{release[0]}.{release[1]}"


def _unknown(table: str) -> str:
    place = "trtyard/matrix/compatibility.py"
    return f"which is unknown; add it with its source to {table} in {place}"
