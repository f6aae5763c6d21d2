"""Base images made on this machine, for where no registry can be reached.

mmdebstrap makes them of the locked packages, each compared with its hash: from this machine's apt
sources, or from the distribution's snapshots what these no longer have. Where neither has one of
them, all are today's from the apt sources, whose signatures apt verifies. Then the image carries a
list of the versions that differ, in a label in short and in ``/opt/trtyard/base.json`` in full, and
a package that the lock does not name is an error.
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
from collections.abc import Iterable
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
RECIPE = "2"  # raise it when a base is made differently from the same lock
MAKER = "mmdebstrap"
RECIPE_LABEL = "trtyard.recipe"  # the tag, so that another base under the name is told

# mmdebstrap's own: merges /usr as a fresh installation does. Without it usrmerge does, with perl.
_MERGED_USR = "/usr/share/mmdebstrap/hooks/merged-usr"
# What of this machine gets into a new root folder, and what differs from one making to the next.
_LIST_INSTALLED = """chroot "$1" dpkg-query --show --showformat '${Package} ${Version}\\n'"""
_CLEAN = (
    'rm -rf "$1"/etc/resolv.conf "$1"/etc/hostname "$1"/etc/apt/sources.list'
    ' "$1"/etc/apt/sources.list.d/* "$1"/etc/machine-id "$1"/var/lib/dbus/machine-id'
    ' "$1"/var/log/apt/* "$1"/var/log/*.log "$1"/var/cache/ldconfig/aux-cache'
    ' "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/* "$1"/var/cache/debconf/*-old'
)


@dataclass(frozen=True, kw_only=True)
class LocalBase:
    """One stage's base image, as it is or would be called here."""

    row: Row
    locked: LockedRow
    stage: Stage
    suffix: str = ""  # of the tag, for one made apart from that which builds take

    @property
    def debs(self) -> tuple[Deb, ...]:
        """Every package that it holds, as locked."""
        stages = ("base", "runtime") if self.stage == "base" else ("base", "runtime", "build")
        return tuple(deb for deb in self.locked.debs if deb.stage in stages)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The packages to ask for beyond the minimal system; the rest are their dependencies."""
        debs = self.row.debs
        build = debs.build if self.stage == "build-base" else ()
        return (*debs.base, *debs.runtime, *build)

    @property
    def image(self) -> str:
        """The image's name; its tag says what the base is made from, so that rows share it."""
        lines = [RECIPE, str(SOURCE_DATE_EPOCH), self.row.base.suite, _CLEAN, *self.wanted]
        lines += [f"{deb.name} {deb.version} {deb.sha256}" for deb in self.debs]
        recipe = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
        return f"trtyard/{self.stage}:{self.row.base.suite}-{recipe}{self.suffix}"


def local_bases(row: Row, locked: LockedRow, suffix: str = "") -> tuple[LocalBase, ...]:
    """Return the row's bases: the one the image starts from, and the one that compiles."""
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
    """Make the base images that are not there yet, or all of them with ``force``.

    With a ``store`` its archives are taken, each compared with the lock, and no network.

    ``EnvironmentLacksError`` where a tool, a right or the row's apt sources are missing,
    ``IntegrityError`` where a package is not the one that the lock names.
    """
    obstacle = _why_not_of_debs(row)
    if obstacle is not None:
        raise UsageError(obstacle, f"./run build --trt {row.name} takes it from its registry")
    client = connect()
    docker = docker_command()
    require_builder(client.version())
    bases = local_bases(row, locked, suffix)
    for base in bases:
        problem = base_problem(client, base)
        if problem is not None:
            say(f"{problem}; it is made anew")
        if not force and problem is None and image_id(client, base.image):
            say(f"{base.image} is there already")
            if not dry_run:
                note_id(client, base.image)
        elif dry_run:
            say(f"would make {base.image}: {len(base.debs)} packages of {row.base.suite}")
        else:
            _make(base, docker, Path(store).resolve() if store else _locked_debs(base))
            note_id(client, base.image)
    return bases


def _locked_debs(base: LocalBase) -> Path | None:
    """Return a store with the base's packages as locked, or None where one cannot be reached."""
    store = YARD / "store"
    make_own(YARD)
    try:
        have_debs(base.row, base.locked, base.debs, store)
    except EnvironmentLacksError as error:
        first = error.message.partition("\n")[0]
        say(f"the locked packages cannot all be reached: {first}")
        say(
            f"{base.image} gets today's versions instead; to lock these: ./run lock --upgrade"
            f" {base.row.name}"
        )
        return None
    return store


def have_bases(client: "DockerClient", row: Row, locked: LockedRow) -> bool:
    """Tell whether the engine has both of the row's locally made bases, as they were made."""
    return row.base.contents == "minimal" and all(
        image_id(client, base.image) and base_problem(client, base) is None
        for base in local_bases(row, locked)
    )


def base_problem(client: "DockerClient", base: LocalBase) -> str | None:
    """Return why the image under the base's name is not that base, or None; also if none is."""
    if image_id(client, base.image) is None:
        return None
    tag = base.image.rpartition(":")[2]
    expected = Expected(labels={RECIPE_LABEL: tag}, layers=1, last_step='CMD ["/bin/bash"]')
    return problem_of(client, base.image, expected)


def why_not_here(row: Row, *, store: bool = False) -> str | None:
    """Return why no base can be made on this machine, or None if it can. Quick.

    With a ``store`` the machine's apt sources are not needed.
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
    """Return why the row's base is not one that can be made of a distribution's packages."""
    if row.base.contents == "minimal":
        return None
    return f"the base of row {row.name}, {row.base.image}, holds more than its distribution"


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
        command: list[Word] = [
            MAKER,
            "--quiet",
            "--variant=minbase",
            f"--include={','.join(base.wanted)}",
        ]
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
                f"the base image could not be made; {error.message}",
                "as root, and with fresh package lists: sudo apt-get update",
            ) from None
        facts = _facts(base, debs.read_text(encoding="utf-8"), hashes.read_text(encoding="utf-8"))
        _import(base, docker, folder, facts)


def _repository(base: LocalBase, store: Path, folder: Path) -> list[str]:
    """Return an apt source of just the base's packages, each compared with the lock."""
    archive = folder / "archive"
    archive.mkdir()
    folder.chmod(0o755)  # apt reads it as a user of its own
    stanzas = []
    for deb in base.debs:
        name = deb_filename(deb)
        shutil.copyfile(checked_deb(store, deb), archive / name)
        fields = output_of(["dpkg-deb", "--field", archive / name]).strip()
        if deb.name == "apt":  # that a distribution needs it, its archive says and not the package
            fields = re.sub(r"^Priority: .*", "Priority: required", fields, flags=re.MULTILINE)
        stanzas.append(f"{fields}\nFilename: ./{name}\nSize: {deb.size}\nSHA256: {deb.sha256}\n")
    packages = "\n".join(stanzas).encode()
    (archive / "Packages").write_bytes(packages)
    # By the codename mmdebstrap finds what is essential, and installs nothing without it.
    entry = f"{hashlib.sha256(packages).hexdigest()} {len(packages)} Packages"
    release = f"Suite: {base.row.base.suite}\nCodename: {base.row.base.suite}\nSHA256:\n {entry}\n"
    (archive / "Release").write_text(release, encoding="utf-8")
    # Not signed, but every archive was just compared with the lock, and apt compares it again.
    return [f"deb [trusted=yes] copy://{archive} ./"]


def _facts(base: LocalBase, listed: str, hashes: str) -> dict[str, Any]:
    """Return what ``base.json`` says; ``IntegrityError`` for a package that the lock forbids."""
    differences = compare({deb.name: deb.version for deb in base.debs}, read_debs(listed))
    wrong = [one for one in differences if not (one.expected and one.found)]
    if wrong:
        raise IntegrityError(
            f"the base image does not hold the packages of versions.lock: {_listed(wrong)}",
            f"resolve the lock anew here: ./run lock --upgrade {base.row.name}",
        )
    found = {line.split()[1].replace("%3a", ":"): line.split()[0] for line in hashes.splitlines()}
    for deb in base.debs:
        archive = f"{deb.name}_{deb.version}_{deb.architecture}.deb"
        if archive in found and found[archive] != deb.sha256:
            raise IntegrityError(
                f"{archive} has sha256 {found[archive]}, versions.lock names {deb.sha256}",
                "look to the apt sources of this machine; do not use what they give",
            )
    return {
        "kind": "local",
        "suite": base.row.base.suite,
        "instead_of": f"{base.locked.base.image}@{base.locked.base.digest}",
        "other_versions": [list(one) for one in differences],
    }


def _import(base: LocalBase, docker: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Make the image of one layer and the facts; the same content gives the same digest."""
    _write_tar(folder / "facts.tar", {BASE_FACTS: json.dumps(facts, indent=2) + "\n"})
    others = len(facts["other_versions"])
    label = f"local: {facts['suite']} from this machine's apt sources, {others} of"
    label += f" {len(base.debs)} packages not in the locked version"
    lines = ["FROM scratch", "ADD root.tar facts.tar /", f"LABEL trtyard.base={json.dumps(label)}"]
    lines.append(f"LABEL {RECIPE_LABEL}={json.dumps(base.image.rpartition(':')[2])}")
    (folder / "Dockerfile").write_text("\n".join([*lines, 'CMD ["/bin/bash"]', ""]))
    build: list[Word] = [
        docker,
        "buildx",
        "build",
        "--builder",
        "default",
        "--provenance=false",
        "--quiet",
    ]
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


def _listed(differences: Iterable[Difference]) -> str:
    return "; ".join(str(one) for one in differences)
