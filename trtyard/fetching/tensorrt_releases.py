"""TensorRT releases with Python bindings on the package index, with their CUDA and Pythons."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from packaging.version import Version

from trtyard.core.errors import UsageError
from trtyard.fetching.package_index import published
from trtyard.matrix.compatibility import DRIVERS, Release, release_of
from trtyard.matrix.new_row import tensorrt_packages
from trtyard.matrix.row import Flavour, Row

_WORD = re.compile(r"(?P<rtx>rtx-)?(?P<numbers>\d+\.\d+(\.\d+)*)")
_ROW_NUMBERS = 2  # numbers in a row's name
_LIST = "./run row list --available"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One release on the package index."""

    flavour: Flavour
    version: Version  # with .postN if the release was repackaged
    pythons: Mapping[str, tuple[str, ...]]  # package name (one for each CUDA) to Pythons

    @property
    def tensorrt(self) -> str:
        """The release without .postN."""
        return ".".join(map(str, self.version.release))

    def pythons_for(self, cuda: str) -> tuple[str, ...]:
        """Return the Pythons with a wheel for that CUDA release."""
        package = tensorrt_packages(release_of(self.tensorrt), self.flavour, cuda)["bindings"]
        return self.pythons.get(package, ())

    @property
    def row(self) -> str:
        """The name of the row with this release."""
        return row_name(self.flavour, self.version.release)


def row_name(flavour: Flavour, numbers: Sequence[int]) -> str:
    """Return the row's name, such as 10.13 for (10, 13, 3, 9), or rtx-1.7."""
    return f"{'rtx-' if flavour == 'rtx' else ''}{numbers[0]}.{numbers[1]}"


def parse_release(word: str) -> tuple[Flavour, tuple[int, ...]]:
    """Return flavour and numbers of ``10.13``, ``10.13.2.6`` or ``rtx-1.6``.

    Raises ``UsageError`` for any other word.
    """
    match = _WORD.fullmatch(word)
    if match is None:
        raise UsageError(
            f"{word!r} is not a TensorRT release such as 10.13 or rtx-1.7",
            f"list the releases: {_LIST}",
        )
    return "rtx" if match["rtx"] else "full", tuple(map(int, match["numbers"].split(".")))


def offers() -> list[Offer]:
    """Return every release: TensorRT for RTX before TensorRT, newer ones first."""
    # Release (1, 0) stands for the releases whose package names do not include CUDA.
    names = {
        (flavour, tensorrt_packages(release, flavour, f"{cuda}.0")["bindings"])
        for flavour in get_args(Flavour)
        for cuda in DRIVERS
        for release in ((1, 0), (99, 0))
    }
    index = published(*sorted({name for _, name in names}))
    found: dict[tuple[Flavour, Version], dict[str, tuple[str, ...]]] = {}
    for flavour, name in sorted(names):
        for one in index[name]:
            found.setdefault((flavour, one.version), {})[name] = one.pythons
    ordered = sorted(found, key=lambda one: (one[0], one[1]), reverse=True)
    return [Offer(flavour=one[0], version=one[1], pythons=found[one]) for one in ordered]


def chosen(
    offered: Sequence[Offer], flavour: Flavour, numbers: tuple[int, ...], python: str, cuda: str
) -> Offer:
    """Return the newest offer of that release with bindings for that Python and CUDA.

    ``UsageError`` says which of the three is not published and lists the alternatives.
    """
    any_flavour = [one for one in offered if one.version.release[: len(numbers)] == numbers]
    named = [one for one in any_flavour if one.flavour == flavour]
    word = ("rtx-" if flavour == "rtx" else "") + ".".join(map(str, numbers))
    if not named:
        flavoured = (one for one in offered if one.flavour == flavour)
        names = [one.row if len(numbers) == _ROW_NUMBERS else one.tensorrt for one in flavoured]
        hint = f"; did you mean {any_flavour[0].row}?" if any_flavour else _around(numbers, names)
        raise UsageError(
            f"the package index has no TensorRT {word}{hint}", f"list the releases: {_LIST}"
        )
    for_cuda = [one for one in named if one.pythons_for(cuda)]
    if not for_cuda:
        raise UsageError(
            f"TensorRT {word} has no build for CUDA {cuda}, only"
            f" {', '.join(sorted({each for one in named for each in one.pythons}))}",
            f"choose another release, --cuda or --like: {_LIST}",
        )
    for one in for_cuda:
        if python in one.pythons_for(cuda):
            return one
    raise UsageError(
        f"TensorRT {for_cuda[0].version} has no wheel for Python {python}, only for"
        f" {', '.join(for_cuda[0].pythons_for(cuda))}",
        f"choose another release, or with --like a row with one of these Pythons: {_LIST}",
    )


def _around(numbers: tuple[int, ...], names: Iterable[str]) -> str:
    """Return the end of a message that names the next older and newer release."""
    known = {tuple(map(int, re.findall(r"\d+", one))): one for one in names}
    near = [*sorted(one for one in known if one < numbers)[-1:]]
    near += sorted(one for one in known if one > numbers)[:1]
    return f"; the nearest are {' and '.join(known[one] for one in near)}" if near else ""


def nearest_row(rows: Iterable[Row], flavour: Flavour, release: Release) -> Row | None:
    """Return the row of that flavour with the nearest release and a stock parser, or None."""
    return min(
        (one for one in rows if one.flavour == flavour and one.parser == "stock"),
        key=lambda one: tuple(
            abs(a - b) for a, b in zip(release_of(one.tensorrt), release, strict=True)
        ),
        default=None,
    )


def torch_release(word: str) -> str:
    """Return the newest published torch whose version begins with ``word``.

    Raises ``UsageError`` if there is none.
    """
    numbers = tuple(map(int, word.split(".")))
    releases = [str(one.version) for one in published("torch")["torch"]]
    for one in releases:
        if f"{one}.".startswith(f"{word}."):
            return one
    raise UsageError(f"the package index has no torch {word}{_around(numbers, releases)}")


def cuda_packages(like: Row, cuda: str) -> dict[str, str]:
    """Return the newest releases for ``cuda`` of the row's packages that CUDA's toolkit versions.

    Raises ``UsageError`` if a package has no release for ``cuda``.
    """
    if cuda == like.cuda:
        return {}
    names = [
        name
        for name, version in like.packages.items()
        if name.startswith("nvidia-") and release_of(version) == release_of(like.cuda)
    ]
    found = {}
    for name, releases in published(*names).items():
        fitting = [one for one in releases if one.version.release[:2] == release_of(cuda)]
        if not fitting:
            raise UsageError(
                f"the package index has no {name} of CUDA {cuda}; row {like.name} needs it to"
                " compile plugins",
                f"the newest is {releases[0].version}" if releases else "choose another --cuda",
            )
        found[name] = str(fitting[0].version)
    return found
