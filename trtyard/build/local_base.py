"""Makes base images on this machine, for machines that cannot reach a registry.

mmdebstrap makes them from the locked packages, each checked against its hash. They come from this
machine's apt sources, or from the distribution's snapshots if they are no longer there. If neither
has a package, all packages are the current ones of the apt sources, whose signatures apt verifies.
The image then lists the versions that differ in ``/opt/trtyard/base.json``, and their number in a
label. A package that is not in the lock is an error.
"""

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trtyard.build.identity import Expected, note_id, problem_of
from trtyard.build.store import checked_deb, have_debs
from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.core.inventory import BASE_FACTS, Difference, compare, read_debs
from trtyard.lock.debs import deb_filename, suite_sources
from trtyard.lock.file import Deb, LockedRow
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import SOURCE_DATE_EPOCH
from trtyard.system.docker_engine import connect, docker_command, image_id, require_builder
from trtyard.system.folders import make_own
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say
from trtyard.system.uv import YARD

if TYPE_CHECKING:
    from docker import DockerClient

Stage = Literal["base", "build-base"]
STAGES: tuple[Stage, ...] = ("base", "build-base")
RECIPE = "2"  # increase it when a change makes a different base from the same lock
MAKER = "mmdebstrap"
RECIPE_LABEL = "trtyard.recipe"  # has the recipe, to detect another base with the same name

# mmdebstrap's hook that merges /usr like a new installation. Without it, usrmerge and perl do that.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
# The files to remove: copies of this machine's, and those that differ between two runs.
_LIST_INSTALLED = """chroot "$1" dpkg-query --show --showformat '${Package} ${Version}\\n'"""
_CLEAN = (
    'rm -rf "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/apt/sources.list'
    ' "$1"/etc/apt/sources.list.d/* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id'
    ' "$1"/var/log/apt/* "$1"/var/log/*.log "$1"/var/cache/ldconfig/aux-cache'
    ' "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/*-old'
)


@dataclass(frozen=True, kw_only=True)
class LocalBase:
    """The locally made base image of one stage."""

    row: Row
    locked: LockedRow
    stage: Stage
    suffix: str = ""  # of the tag, for a base that builds must not use

    @property
    def debs(self) -> tuple[Deb, ...]:
        """The locked packages in the image."""
        stages = ("base", "runtime") if self.stage == "base" else ("base", "runtime", "build")
        return tuple(deb for deb in self.locked.debs if deb.stage in stages)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The packages to install on the minimal system; the others are their dependencies."""
        debs = self.row.debs
        build = debs.build if self.stage == "build-base" else ()
        return (*debs.base, *debs.runtime, *build)

    @property
    def recipe(self) -> str:
        """The suite and a hash of all that goes into the base; the suffix is no part of it."""
        lines = [RECIPE, str(SOURCE_DATE_EPOCH), self.row.base.suite, _CLEAN, *self.wanted]
        lines += [f"{deb.name} {deb.version} {deb.sha256}" for deb in self.debs]
        found = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
        return f"{self.row.base.suite}-{found}"

    @property
    def image(self) -> str:
        """The image's name; its tag is the recipe, so that rows share it."""
        return f"trtyard/{self.stage}:{self.recipe}{self.suffix}"


def local_bases(row: Row, locked: LockedRow, suffix: str = "") -> tuple[LocalBase, ...]:
    """Return the row's two bases: of the image itself, and of the stages that compile."""
    return tuple(LocalBase(row=row, locked=locked, stage=stage, suffix=suffix) for stage in STAGES)


def make_bases(
    row: Row,
    locked: LockedRow,
    *,
    force: bool = False,
    store: str = "",
    suffix: str = "",
    dry_run: bool = False,
) -> tuple[LocalBase, ...]:
    """Make the missing base images, or all of them with ``force``; return them.

    With a ``store``, the packages come from there, each checked against the lock. No network.

    Raises ``EnvironmentLacksError`` if a tool, a permission or the row's apt sources are missing,
    ``IntegrityError`` if a package does not match the lock.
    """
    obstacle = _why_not_of_debs(row)
    if obstacle is not None:
        raise UsageError(obstacle, f"./run build --trt {row.name} pulls it from its registry")
    client = connect()
    docker = docker_command()
    require_builder(client.version())
    bases = local_bases(row, locked, suffix)
    for base in bases:
        problem = base_problem(client, base)
        if problem is not None:
            say(f"{problem}; making it again")
        if not force and problem is None and image_id(client, base.image):
            say(f"{base.image} already exists")
            if not dry_run:
                note_id(client, base.image)
        elif dry_run:
            say(f"would make {base.image}: {len(base.debs)} packages of {row.base.suite}")
        else:
            _make(base, docker, Path(store).resolve() if store else _locked_debs(base))
            note_id(client, base.image)
    return bases


def _locked_debs(base: LocalBase) -> Path | None:
    """Return a store with the base's locked packages, or None if one cannot be downloaded."""
    store = YARD / "store"
    make_own(YARD)
    try:
        have_debs(base.row, base.locked, base.debs, store)
    except EnvironmentLacksError as error:
        first = error.message.partition("\n")[0]
        say(f"some locked packages cannot be downloaded: {first}")
        say(
            f"{base.image} gets the current versions instead; to lock those: ./run lock --upgrade"
            f" {base.row.name}"
        )
        return None
    return store


def have_bases(client: "DockerClient", row: Row, locked: LockedRow) -> bool:
    """Tell whether the engine has both locally made bases of the row, unchanged."""
    return row.base.contents == "minimal" and all(
        image_id(client, base.image) and base_problem(client, base) is None
        for base in local_bases(row, locked)
    )


def base_problem(client: "DockerClient", base: LocalBase) -> str | None:
    """Return why the image with the base's name is not that base; None if it is or is missing."""
    if image_id(client, base.image) is None:
        return None
    labels = {RECIPE_LABEL: base.recipe}
    expected = Expected(labels=labels, layers=1, last_step='CMD ["/bin/bash"]')
    return problem_of(client, base.image, expected)


def why_not_here(row: Row, *, store: bool = False) -> str | None:
    """Return why no base can be made on this machine, or None if one can. Needs no network.

    With a ``store``, the machine's apt sources are not needed.
    """
    if (obstacle := _why_not_of_debs(row)) is not None:
        return obstacle
    if shutil.which(MAKER) is None:
        return f"{MAKER} is not installed"
    if store:
        return None
    try:
        suite_sources(row.base.suite)
    except EnvironmentLacksError as error:
        return error.message
    return None


def _why_not_of_debs(row: Row) -> str | None:
    """Return why the row's base cannot be made from distribution packages, or None if it can."""
    if row.base.contents == "minimal":
        return None
    return (
        f"the base of row {row.name}, {row.base.image}, cannot be made from distribution packages:"
        " it is a vendor's image"
    )


def _make(base: LocalBase, docker: Path, store: Path | None = None) -> None:
    if shutil.which(MAKER) is None:
        raise EnvironmentLacksError(f"{MAKER} is not installed", f"sudo apt-get install {MAKER}")
    suite = base.row.base.suite
    origin = store or f"this machine's apt sources of {suite}"
    say(f"making {base.image} from {origin}")
    with tempfile.TemporaryDirectory(prefix="trtyard-base-") as name:
        folder = Path(name)
        root, debs, hashes = folder / "root.tar", folder / "debs.txt", folder / "sha256.txt"
        hooks = [
            f'cd "$1"/var/cache/apt/archives && sha256sum *.deb > {shlex.quote(str(hashes))}',
            f"{_LIST_INSTALLED} > {shlex.quote(str(debs))}",
            _CLEAN,
        ]
        command: list[Word] = [MAKER, "--quiet", "--variant=minbase"]
        command += [f"--include={','.join(base.wanted)}"]
        # The archives stay until they are hashed; the last hook removes them.
        command += ["--skip=download/empty,essential/unlink,cleanup/apt"]
        if "usr-is-merged" in base.row.debs.base:
            command += [f"--hook-dir={_MERGED_USR}"]
        command += [f"--customize-hook={hook}" for hook in hooks]
        sources = suite_sources(suite) if store is None else _repository(base, store, folder)
        environment = {**os.environ, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH)}
        try:
            check([*command, suite, root, *sources], env=environment)
        except CommandError as error:
            raise EnvironmentLacksError(
                f"the base image cannot be made; {error.message}",
                "run sudo apt-get update, then the command again as root",
            ) from None
        facts = _facts(base, debs.read_text(encoding="utf-8"), hashes.read_text(encoding="utf-8"))
        _import(base, docker, folder, facts)


def _repository(base: LocalBase, store: Path, folder: Path) -> list[str]:
    """Return an apt source with only the base's packages, each checked against the lock."""
    archive = folder / "archive"
    archive.mkdir()
    folder.chmod(0o755)  # apt reads it as another user
    stanzas = []
    for deb in base.debs:
        name = deb_filename(deb)
        shutil.copyfile(checked_deb(store, deb), archive / name)
        fields = output_of(["dpkg-deb", "--field", archive / name]).strip()
        if deb.name == "apt":  # required in the distribution's list, but not in the package itself
            fields = re.sub(r"^Priority: .*", "Priority: required", fields, flags=re.MULTILINE)
        stanzas.append(f"{fields}\nFilename: ./{name}\nSize: {deb.size}\nSHA256: {deb.sha256}\n")
    packages = "\n".join(stanzas).encode()
    (archive / "Packages").write_bytes(packages)
    # mmdebstrap needs the codename to find the essential packages.
    entry = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} Packages"
    release = f"Suite: {base.row.base.suite}\nCodename: {base.row.base.suite}\nSHA256:\n {entry}\n"
    (archive / "Release").write_text(release, encoding="utf-8")
    # Not signed, but every package is checked against the lock, and apt checks it again.
    return [f"deb [trusted=yes] copy://{archive} ./"]


def _facts(base: LocalBase, listed: str, hashes: str) -> dict[str, Any]:
    """Return the content of ``base.json``; ``IntegrityError`` for a package that is not locked."""
    differences = compare({deb.name: deb.version for deb in base.debs}, read_debs(listed))
    wrong = [one for one in differences if not (one.expected and one.found)]
    if wrong:
        raise IntegrityError(
            f"the base image does not have the packages in versions.lock:"
            f" {'; '.join(map(str, wrong))}",
            f"resolve the lock on this machine: ./run lock --upgrade {base.row.name}",
        )
    found = {line.split()[1].replace("%3a", ":"): line.split()[0] for line in hashes.splitlines()}
    for deb in base.debs:
        archive = f"{deb.name}_{deb.version}_{deb.architecture}.deb"
        if archive in found and found[archive] != deb.sha256:
            raise IntegrityError(
                f"{archive}: expected sha256 {deb.sha256}, found {found[archive]}",
                "check this machine's apt sources; do not use their packages",
            )
    return {
        "kind": "local",
        "suite": base.row.base.suite,
        "instead_of": f"{base.locked.base.image}@{base.locked.base.digest}",
        "other_versions": [list(one) for one in differences],
    }


def _import(base: LocalBase, docker: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Make the image: one layer with root folder and facts; equal content gives an equal digest."""
    _write_tar(folder / "facts.tar", {BASE_FACTS: json.dumps(facts, indent=2) + "\n"})
    others = len(facts["other_versions"])
    label = f"local: {facts['suite']} from this machine's apt sources, {others} of"
    label += f" {len(base.debs)} packages differ from the locked version"
    lines = ["FROM scratch", "ADD root.tar facts.tar /", f"LABEL trtyard.base={json.dumps(label)}"]
    lines.append(f"LABEL {RECIPE_LABEL}={json.dumps(base.recipe)}")
    (folder / "Dockerfile").write_text("\n".join([*lines, 'CMD ["/bin/bash"]', ""]))
    build: list[Word] = [docker, "buildx", "build", "--builder", "default"]
    build += ["--provenance=false", "--quiet"]
    build += ["--build-arg", f"SOURCE_DATE_EPOCH={SOURCE_DATE_EPOCH}", "--tag", base.image]
    check([*build, folder])
    say(f"{base.image}: {label}")
    for other in facts["other_versions"]:
        say(f"  {Difference(*other)}")


def _write_tar(file: Path, content: dict[Path, str]) -> None:
    with tarfile.open(file, "w") as tar:
        for path, text in content.items():
            folders = [parent for parent in reversed(path.parents) if parent != Path("/")]
            for name, data in [*((folder, None) for folder in folders), (path, text.encode())]:
                entry = tarfile.TarInfo(str(name).lstrip("/"))
                entry.mtime = SOURCE_DATE_EPOCH
                entry.type, entry.mode = (
                    (tarfile.DIRTYPE, 0o755) if data is None else (tarfile.REGTYPE, 0o644)
                )
                entry.size = len(data or b"")
                tar.addfile(entry, io.BytesIO(data or b""))
