"""A row of the matrix: one exact toolchain, as data."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Flavour = Literal["rtx", "full"]
TensorrtFrom = Literal["packages", "vendor-wheels", "vendor-debs", "base-image"]
Exporter = Literal["dynamo", "torchscript"]
Parser = Literal["stock", "patched"]
PluginShell = Literal["cpp-v2", "cpp-v3", "python-v3"]
ExecutorName = Literal["docker", "host"]
DigestKind = Literal["index", "platform", "unknown"]
BaseContents = Literal["minimal", "vendor"]
Until = Literal["onnx", "engine"]
UNRESOLVED = "unresolved"  # in place of a digest that is not known yet


@dataclass(frozen=True, kw_only=True)
class PublicPin:
    """The hash of a vendor's file, found in public files; the file is not downloaded yet."""

    package: str
    version: str
    sha256: str
    size: int  # bytes; 0 if not known
    origin: str  # a short note on where the hash was found


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """The base image of the row's image."""

    image: str
    suite: str  # the codename of the image's distribution
    contents: BaseContents  # minimal: essential packages only; vendor: chosen by the vendor
    digest: str  # or UNRESOLVED
    digest_kind: DigestKind
    platform_digest: str  # of the linux/amd64 manifest if ``digest`` names an index, else ""


@dataclass(frozen=True, kw_only=True)
class Debs:
    """Distribution packages by name; the lock has their versions and dependencies."""

    base: tuple[str, ...]  # in the base image, in addition to the essential ones
    runtime: tuple[str, ...]  # in every stage of the image
    build: tuple[str, ...]  # only in stages that compile
    # Unpacked without their dependencies, in stages that compile. The components, in addition to
    # main, are used for these packages only.
    unpacked: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageParts:
    """Which locked Python packages go into which stage of the image, by name."""

    compile_with: tuple[str, ...]  # in the stages that compile plugins and sources
    leave_out: tuple[str, ...]  # not in the finished images
    runtime: tuple[str, ...]  # in the small image that only runs engines; empty: no such image
    tools: tuple[str, ...]  # installed before uv, if the distribution's pip is too old for uv


@dataclass(frozen=True, kw_only=True)
class Row:
    """One exact toolchain."""

    name: str
    tensorrt: str
    flavour: Flavour
    tensorrt_from: TensorrtFrom
    python: str
    cuda: str
    nvcc: str  # the CUDA release of nvcc; if not ``cuda``, its runtime is linked in statically
    driver: str  # the oldest driver that works
    exporter: Exporter
    opset: int
    parser: Parser
    plugin_shells: tuple[PluginShell, ...]
    architectures: tuple[str, ...]
    runs_on: tuple[str, ...]
    executors: tuple[ExecutorName, ...]
    host_pythons: tuple[str, ...]  # Pythons of the host executor, see ``pythons``
    glibc: str
    base: BaseImage
    debs: Debs
    image: ImageParts
    packages: Mapping[str, str]
    packages_on: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, str]
    vendor_packages: Mapping[str, str]  # wheels that only the vendor's own index has
    public_pins: Mapping[str, PublicPin]  # file name of such a wheel to its published hash
    vendor_debs: Mapping[str, str]  # distribution packages of the vendor's own apt source
    commits: Mapping[str, str]  # source repository (owner/name on GitHub) to commit
    terms: str  # licenses or accounts needed for the vendor's files; "" for none

    @property
    def host_until(self) -> Until | None:
        """The last stage that runs in a virtual environment; None if the host is not supported.

        The export to ONNX needs packages from PyPI only; an engine also needs TensorRT's libraries.
        """
        if "host" not in self.executors:
            return None
        return "engine" if self.tensorrt_from == "packages" else "onnx"

    @property
    def pythons(self) -> tuple[str, ...]:
        """Every Python that the row is locked for, the image's own first."""
        others = tuple(one for one in self.host_pythons if one != self.python)
        return (self.python, *others)

    def packages_for(self, python: str) -> dict[str, str]:
        """Return the pinned packages for that Python, name to version, without ``sources``."""
        return {**self.packages, **self.packages_on.get(python, {})}

    def sha256(self) -> str:
        """Return the hash of all values of the row, independent of their order and layout."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def facts(self, python: str) -> dict[str, Any]:
        """Return the content of ``row.json``, which the pipeline reads."""
        packages = self.packages_for(python)
        return {
            "name": self.name,
            "tensorrt": self.tensorrt,
            "flavour": self.flavour,
            "exporter": self.exporter,
            "opset": self.opset,
            "torch": packages["torch"],
            "torchvision": packages["torchvision"],
            "python": python,
            "cuda": self.cuda,
            "architectures": list(self.architectures),
            "runs_on": list(self.runs_on),
            "plugin_shells": list(self.plugin_shells),
            "parser": self.parser,
        }
