"""A row of the matrix: one exact toolchain, as plain checked data."""

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
UNRESOLVED = "unresolved"  # stands where a digest is not known yet


@dataclass(frozen=True, kw_only=True)
class PublicPin:
    """What public files say of a vendor's file that nobody has downloaded yet."""

    package: str
    version: str
    sha256: str
    size: int  # bytes; 0 where it was not said
    origin: str  # where it was seen, in a few words


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """What the row's image starts from."""

    image: str
    suite: str  # the distribution's codename, whose packages fit into it
    contents: BaseContents  # the essential packages alone, or whatever its vendor put in
    digest: str  # or UNRESOLVED
    digest_kind: DigestKind
    platform_digest: str  # of the manifest for linux/amd64, where ``digest`` names an index; or ""


@dataclass(frozen=True, kw_only=True)
class Debs:
    """Distribution packages by name; the lock holds their versions and what they depend on."""

    base: tuple[str, ...]  # in the base image beyond the essential ones
    runtime: tuple[str, ...]  # in every stage of the image
    build: tuple[str, ...]  # only where something is compiled
    # Only unpacked where something is compiled, without what they depend on. The components, beyond
    # main, are asked for these alone.
    unpacked: tuple[str, ...]
    components: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ImageParts:
    """Which of the locked Python packages the image takes where, by name."""

    compile_with: tuple[str, ...]  # in the stages that compile plugins and sources
    leave_out: tuple[str, ...]  # in no finished image
    runtime: tuple[str, ...]  # in the small image that only runs engines; none for no such image
    tools: tuple[str, ...]  # before uv, where the distribution's pip is too old to install it


@dataclass(frozen=True, kw_only=True)
class Row:
    """One exact toolchain."""

    name: str
    tensorrt: str
    flavour: Flavour
    tensorrt_from: TensorrtFrom
    python: str
    cuda: str
    nvcc: str  # the release of the CUDA compiler: ``cuda``, or another that is linked in statically
    driver: str  # the least driver that runs it
    exporter: Exporter
    opset: int
    parser: Parser
    plugin_shells: tuple[PluginShell, ...]
    architectures: tuple[str, ...]
    runs_on: tuple[str, ...]
    executors: tuple[ExecutorName, ...]
    host_pythons: tuple[str, ...]  # preferred first the row's own, see ``pythons``
    glibc: str
    base: BaseImage
    debs: Debs
    image: ImageParts
    packages: Mapping[str, str]
    packages_on: Mapping[str, Mapping[str, str]]
    sources: Mapping[str, str]
    vendor_packages: Mapping[str, str]  # wheels that only the vendor's own index has
    public_pins: Mapping[str, PublicPin]  # file name of such a wheel to what is said of it
    vendor_debs: Mapping[str, str]  # distribution packages of the vendor's own apt source
    commits: Mapping[str, str]  # source repositories (owner/name on GitHub) by commit
    terms: str  # what a user accepts or needs to get the vendor's files; "" for nothing

    @property
    def host_until(self) -> Until | None:
        """How far the row goes in a virtual environment: None for not at all.

        Up to ONNX it takes PyPI's packages alone; an engine needs TensorRT's libraries too.
        """
        if "host" not in self.executors:
            return None
        return "engine" if self.tensorrt_from == "packages" else "onnx"

    @property
    def pythons(self) -> tuple[str, ...]:
        """Every Python the row is locked for, the image's own first."""
        others = tuple(one for one in self.host_pythons if one != self.python)
        return (self.python, *others)

    def packages_for(self, python: str) -> dict[str, str]:
        """Return name to version of what is asked for on that Python, without the sources."""
        return {**self.packages, **self.packages_on.get(python, {})}

    def sha256(self) -> str:
        """Return the hash of everything the row says, independent of order and layout."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def facts(self, python: str) -> dict[str, Any]:
        """Return what the pipeline needs to know: the content of ``row.json``."""
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
