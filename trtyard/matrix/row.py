"""A row of the matrix: one exact toolchain, as data.

The annotations are also the rules for its keys in ``versions.toml``, and make their JSON schema.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from packaging.utils import parse_wheel_filename

from trtyard.system.reading import AtLeastOne, Between, FromKey, Matching

Flavour = Literal["rtx", "full"]
TensorrtFrom = Literal["packages", "vendor-wheels", "vendor-debs", "base-image"]
Exporter = Literal["dynamo", "torchscript"]
Parser = Literal["stock", "patched"]
PluginShell = Literal["cpp-v2", "cpp-v3", "python-v3"]
ExecutorName = Literal["docker", "host"]
DigestKind = Literal["index", "platform", "unknown"]
BaseContents = Literal["minimal", "vendor"]
Until = Literal["onnx", "engine"]
GPU_PACKAGE = "onnxruntime-gpu"
UNRESOLVED = "unresolved"  # in place of a digest that is not known yet
SHA256 = r"[0-9a-f]{64}"

Sha256 = Annotated[str, Matching(SHA256, "64 hex digits")]
_Digest = Annotated[str, Matching(f"sha256:{SHA256}", "sha256: and 64 hex digits")]
DigestOrUnresolved = Annotated[
    str, Matching(f"sha256:{SHA256}|{UNRESOLVED}", "sha256: and 64 hex digits")
]
Python = Annotated[str, Matching(r"3\.\d{1,2}", "a Python like 3.11")]
_Cuda = Annotated[str, Matching(r"\d+\.\d+", "a CUDA release like 13.0")]
# PEP 503's normalised names; PEP 440's public versions without epochs.
_Package = Annotated[
    str,
    Matching(r"[a-z0-9]+(-[a-z0-9]+)*", "a package name in lower case with single hyphens"),
]
_Version = Annotated[
    str, Matching(r"\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\+[a-z0-9.]+)?", "one exact version")
]
_Pins = Mapping[_Package, _Version]
DebName = Annotated[str, Matching(r"[a-z0-9][a-z0-9+.-]+", "a package name")]  # Debian policy 5.6.1
_DebVersion = Annotated[str, Matching(r"[0-9][\w.+:~-]*", "a version")]  # Debian policy 5.6.12
_Repository = Annotated[str, Matching(r"[\w.-]+/[\w.-]+", "owner/name")]
_Commit = Annotated[str, Matching(r"[0-9a-f]{40}", "40 hex digits")]
_WHEEL = "the file name of a wheel"


@dataclass(frozen=True, kw_only=True)
class PublicPin:
    """The hash of a vendor's file, found in public files; the file is not downloaded yet."""

    package: Annotated[str, FromKey(lambda key: parse_wheel_filename(key)[0], _WHEEL)]
    version: Annotated[str, FromKey(lambda key: str(parse_wheel_filename(key)[1]), _WHEEL)]
    sha256: Sha256
    size: Annotated[int, Between(1, 1 << 40)] = 0  # bytes; 0 if not known
    origin: Annotated[str, Matching(r"[^\t\n]+", "a short note on where the hash was found")]


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """The base image of the row's image."""

    image: Annotated[str, Matching(r"[a-z0-9][a-z0-9./_-]*:[\w][\w.-]*", "an image with its tag")]
    suite: Annotated[str, Matching(r"[a-z]+", "a codename like bookworm")]  # of its distribution
    contents: BaseContents  # minimal: essential packages only; vendor: chosen by the vendor
    digest: DigestOrUnresolved
    digest_kind: DigestKind
    platform_digest: _Digest = ""  # of linux/amd64, if ``digest`` names an index

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield keys that contradict each other, and why."""
        if self.platform_digest and self.digest_kind != "index":
            yield "platform-digest", "is only valid with digest-kind index"
        if self.image.endswith(":latest"):
            yield "image", "must name a release, not latest"


@dataclass(frozen=True, kw_only=True)
class Debs:
    """Distribution packages by name; the lock has their versions and dependencies."""

    base: tuple[DebName, ...]  # in the base image, in addition to the essential ones
    runtime: tuple[DebName, ...]  # in every stage of the image
    build: tuple[DebName, ...]  # only in stages that compile
    # Unpacked without their dependencies, in stages that compile. The components, in addition to
    # main, are used for these packages only.
    unpacked: AtLeastOne[DebName] = ()
    components: AtLeastOne[Annotated[str, Matching(r"[a-z-]+", "a component like non-free")]] = ()


@dataclass(frozen=True, kw_only=True)
class ImageParts:
    """Which locked Python packages go into which stage of the image, by name."""

    compile_with: tuple[_Package, ...]  # in the stages that compile plugins and sources
    leave_out: tuple[_Package, ...]  # not in the finished images
    runtime: tuple[_Package, ...]  # in the image that only runs engines; empty: no such image
    tools: AtLeastOne[_Package] = ()  # installed before uv, if the distribution's pip is too old


@dataclass(frozen=True, kw_only=True)
class Row:
    """One exact toolchain."""

    name: Annotated[str, FromKey(str)]
    tensorrt: Annotated[str, Matching(r"\d+(\.\d+)+", "a version like 10.16.1.11")]
    flavour: Flavour
    tensorrt_from: TensorrtFrom
    python: Python
    cuda: _Cuda
    nvcc: _Cuda = ""  # nvcc's CUDA release, or ``cuda``; another's runtime is linked statically
    driver: Annotated[str, Matching(r"\d+(\.\d+)+", "a driver like 580.65.06")]  # the oldest
    exporter: Exporter
    opset: Annotated[int, Between(7, 99)]
    parser: Parser
    plugin_shells: AtLeastOne[PluginShell]
    architectures: AtLeastOne[Annotated[str, Matching(r"\d{2,3}", 'an architecture like "89"')]]
    runs_on: AtLeastOne[Annotated[str, Matching(r"\d{1,2}\.\d", 'a compute capability like "8.9"')]]
    executors: AtLeastOne[ExecutorName]
    host_pythons: tuple[Python, ...]  # Pythons of the host executor, see ``pythons``
    glibc: Annotated[str, Matching(r"2\.\d{1,2}", "a glibc release like 2.28")]
    base: BaseImage
    debs: Debs
    image: ImageParts
    packages: _Pins
    packages_on: Mapping[str, _Pins] = field(default_factory=dict)
    sources: _Pins = field(default_factory=dict)
    # Installed beside the row for --runtime onnxruntime-cuda: in no image, in no environment.
    gpu: _Pins = field(default_factory=dict)
    vendor_packages: _Pins = field(default_factory=dict)  # only the vendor's own index has them
    # The file name of a wheel of ``vendor_packages``, to its published hash.
    public_pins: Mapping[str, PublicPin] = field(default_factory=dict)
    # Distribution packages of the vendor's own apt source.
    vendor_debs: Mapping[DebName, _DebVersion] = field(default_factory=dict)
    # Source repository (owner/name on GitHub) to commit.
    commits: Mapping[_Repository, _Commit] = field(default_factory=dict)
    terms: str = ""  # licenses or accounts needed for the vendor's files; "" for none

    def __post_init__(self) -> None:
        """Set ``nvcc`` to ``cuda`` if it is not set."""
        object.__setattr__(self, "nvcc", self.nvcc or self.cuda)

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
        """Return the hash of the row's values without ``gpu``, independent of order and layout."""
        values = {name: value for name, value in asdict(self).items() if name != "gpu"}
        canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
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
