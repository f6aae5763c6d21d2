"""Resolves distribution packages with the machine's own apt, as if nothing were installed.

It reads only lists that apt has downloaded and verified (``apt-get update``), and only the suites
of one codename: a pin or a second release on this machine does not change the lock. Nothing is
installed.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.core.files import sha256_of
from trtyard.fetching.snapshots import (
    NO_SERVICE,
    has_snapshots,
    snapshot_service,
    snapshot_sources,
)
from trtyard.lock.file import Deb, DebStage
from trtyard.matrix.compatibility import SUITES
from trtyard.matrix.row import Row
from trtyard.system.processes import CommandError, check, output_of
from trtyard.system.terminal import say

# The packages of a minimal base image (debootstrap's variant minbase).
_MINIMAL = ("?essential", "?priority(required)", "apt")
# "Inst NAME [INSTALLED] (VERSION SOURCE [ARCHITECTURE])"
_INST = re.compile(r"Inst (?P<name>\S+) (?:\[\S+\] )?\((?P<version>\S+) .*\[\w+\]\)")
_ARCHITECTURE = "amd64"
_CANDIDATE = re.compile(r"^(\S+):\n.*\n  Candidate: (\S+)$", re.MULTILINE)

Run = Callable[[list[str]], str]  # runs a command here or in a container; returns its stdout


def suite_sources(suite: str) -> list[str]:
    """Return this machine's apt sources of that codename, with its updates and security fixes.

    Each is a line ``deb URI SUITE COMPONENT``. Raises ``EnvironmentLacksError`` if there are none.
    """
    wanted = {suite, f"{suite}-updates", f"{suite}-security"}
    lines = sorted({line for name, line in _sources() if name in wanted})
    if not lines:
        raise EnvironmentLacksError(
            f"this machine's apt has no package lists for {suite}",
            f"use a machine with apt sources for {suite}, and run apt-get update there first",
        )
    return lines


def _sources() -> list[tuple[str, str]]:
    """Return codename and line of each of this machine's apt sources that has package lists."""
    entry = "$(CREATED_BY)|$(CODENAME)|deb $(SITE) $(RELEASE) $(COMPONENT)"
    targets = output_of(["apt-get", "indextargets", "--format", entry]).splitlines()
    split = [line.split("|") for line in targets if line.count("|") == 2]
    return [(name, line) for kind, name, line in split if kind == "Packages"]


def resolve_debs(row: Row) -> tuple[Deb, ...]:
    """Return all packages of the row's image: base, runtime, build and unpacked ones."""
    with tempfile.TemporaryDirectory(prefix="trtyard-debs-") as folder:
        options = _apt_options(Path(folder), suite_sources(row.base.suite))
        wanted: tuple[str, ...] = _MINIMAL
        found: dict[str, Deb] = {}
        stages: list[tuple[DebStage, tuple[str, ...]]] = [
            ("base", row.debs.base),
            ("runtime", row.debs.runtime),
            ("build", row.debs.build),
        ]
        for stage, names in stages:
            wanted += names
            plan = dict(planned(output_of, [*options, *wanted]))
            added = [name for name in plan if name not in found]
            for name, version in plan.items():
                if name in found and found[name].version != version:
                    raise EnvironmentLacksError(
                        f"apt selects two versions of {name}: {found[name].version} and {version}",
                        "report this as a bug",
                    )
            found.update(facts_of(output_of, stage, {name: plan[name] for name in added}, options))
    return tuple(sorted((*found.values(), *_unpacked(row)), key=lambda deb: (deb.name, deb.stage)))


def _unpacked(row: Row) -> tuple[Deb, ...]:
    """Return the packages that are only unpacked, without their dependencies."""
    if not row.debs.unpacked:
        return ()
    with tempfile.TemporaryDirectory(prefix="trtyard-debs-") as folder:
        lines = _with_components(suite_sources(row.base.suite), row.debs.components)
        options = _updated(Path(folder), lines)
        policy = output_of(["apt-cache", "policy", *options, *row.debs.unpacked])
        candidates = _CANDIDATE.findall(policy)
        plan = {name: version for name, version in candidates if version != "(none)"}
        missing = sorted(set(row.debs.unpacked) - set(plan))
        if missing:
            raise EnvironmentLacksError(
                f"apt has no {', '.join(missing)} for {row.base.suite} in the components"
                f" {', '.join(row.debs.components) or 'that are set up'}",
                "check debs.unpacked and debs.components in versions.toml",
            )
        return tuple(facts_of(output_of, "unpacked", plan, options).values())


def deb_filename(deb: Deb) -> str:
    """Return the file name that apt gives the package, with the epoch's colon escaped."""
    return f"{deb.name}_{deb.version.replace(':', '%3a')}_{deb.architecture}.deb"


def download_deb(deb: Deb, suite: str, folder: Path) -> Path:
    """Download ``deb`` from Debian's ``suite``, also if this machine has another one.

    Raises:
        EnvironmentLacksError: this machine's apt has no source of Debian, or that source no longer
            has this version.
        IntegrityError: the file's hash differs.
    """
    debian = {suite, *(name for name, facts in SUITES.items() if facts[0] == "debian")}
    try:
        sites = sorted({line.split()[1] for name, line in _sources() if name in debian})
    except (CommandError, EnvironmentLacksError):  # no apt here
        sites = []
    file, why = folder / deb_filename(deb), ""
    for site in sites:
        # Not verified by apt, which may not know the suite's keys: the hash is compared below.
        with tempfile.TemporaryDirectory(prefix="trtyard-debs-") as own:
            line = f"deb [trusted=yes] {site} {suite} main"
            try:
                _download(_updated(Path(own), [line]), [deb], folder)
            except CommandError as error:
                why = ": " + (error.tail.strip().splitlines() or [str(error)])[-1]
        if file.is_file():
            break
    if not file.is_file():
        raise EnvironmentLacksError(
            f"this machine's apt cannot download {deb.name} {deb.version} of Debian {suite}{why}"
        )
    found = sha256_of(file)
    if found != deb.sha256:
        raise IntegrityError(f"{file.name}: sha256 is {found}, not {deb.sha256}")
    return file


def download_debs(row: Row, debs: Sequence[Deb], folder: Path, snapshot: str = "") -> None:
    """Download ``debs`` into ``folder``; skip those that no source has.

    Packages that this machine's apt sources no longer have come from the distribution's snapshot of
    the time ``snapshot``, with a notice. The caller compares the files with the lock.
    """
    try:
        sources = suite_sources(row.base.suite)
    except EnvironmentLacksError as error:
        say(error.message)
        sources = []
    for more in (False, True):
        wanted = [deb for deb in debs if (deb.stage == "unpacked") == more]
        components = row.debs.components if more else ()
        with tempfile.TemporaryDirectory(prefix="trtyard-debs-") as own:
            lines = _with_components(sources, components)
            if wanted and sources:
                make = _updated if more else _apt_options
                _download(make(Path(own), lines), wanted, folder)
        _from_snapshots(row, wanted, folder, snapshot, components)


def _from_snapshots(
    row: Row, debs: Sequence[Deb], folder: Path, snapshot: str, components: Sequence[str]
) -> None:
    def lacking_debs() -> list[Deb]:
        return [deb for deb in debs if not (folder / deb_filename(deb)).is_file()]

    if not snapshot or not has_snapshots(row.base.suite) or not lacking_debs():
        return
    service = snapshot_service()
    if not service:
        say(NO_SERVICE)
        return
    for lines in snapshot_sources(row.base.suite, snapshot, service, components):
        lacking = lacking_debs()
        if not lacking:
            return
        place = lines[0].split("] ")[1].split()[0]
        say(
            f"{len(lacking)} packages are no longer in this machine's apt sources"
            f" ({', '.join(deb.name for deb in lacking[:5])}{', ...' * (len(lacking) > 5)});"
            f" using the snapshot {place} (to lock newer ones: ./run lock --upgrade {row.name})"
        )
        with tempfile.TemporaryDirectory(prefix="trtyard-debs-") as own:
            try:
                _download(_updated(Path(own), lines), lacking, folder)
            except CommandError as error:
                last = (error.tail.strip().splitlines() or ["no reason given"])[-1]
                say(f"this snapshot failed: {last}")


def _download(options: Sequence[str], debs: Sequence[Deb], folder: Path) -> None:
    """Download the ``debs`` in apt's lists; apt checks each file against its list."""
    known = output_of(["apt-cache", "dumpavail", *options])
    available = set(re.findall(r"^Filename: .*/([^/\s]+)$", known, flags=re.MULTILINE))
    wanted = [
        f"{deb.name}:{deb.architecture}={deb.version}"
        if deb.architecture != "all"
        else f"{deb.name}={deb.version}"
        for deb in debs
        if _archive_name(deb) in available
    ]
    if wanted:
        # apt's own user has no write access to this user's folder.
        sandbox = ["-o", "APT::Sandbox::User="]
        check(["apt-get", "download", "--quiet", *options, *sandbox, *wanted], cwd=folder)


def _with_components(sources: Sequence[str], components: Sequence[str]) -> list[str]:
    """Return the sources, and each of their suites also with these components."""
    more = [f"{line.rpartition(' ')[0]} {one}" for line in sources for one in components]
    return sorted({*sources, *more})


def _updated(folder: Path, sources: Sequence[str]) -> list[str]:
    """Fetch the lists of these sources into ``folder``; return the apt options that use them."""
    (folder / "lists" / "partial").mkdir(parents=True)
    options = [*_apt_options(folder, sources), "-o", f"Dir::State::lists={folder / 'lists'}"]
    options += ["-o", "APT::Sandbox::User=", "-o", "Acquire::Languages=none"]
    output_of(["apt-get", "update", "--quiet", *options])
    return options


def _archive_name(deb: Deb) -> str:
    """Return the file's name in an archive's pool, without the epoch."""
    return f"{deb.name}_{deb.version.partition(':')[2] or deb.version}_{deb.architecture}.deb"


def _apt_options(folder: Path, sources: Sequence[str]) -> list[str]:
    (folder / "sources.list").write_text("\n".join(sources) + "\n", encoding="utf-8")
    (folder / "status").touch()  # nothing installed
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State::status": folder / "status",
        "Dir::Cache::pkgcache": folder / "packages.bin",  # the machine's covers all its sources
        "Dir::Cache::srcpkgcache": folder / "sources.bin",
        "APT::Architecture": _ARCHITECTURE,
        "APT::Architectures": _ARCHITECTURE,
        "APT::Install-Recommends": "false",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def planned(run: Run, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield name and version of each package that apt would install for these words.

    ``words`` are packages and apt options.
    """
    lines = run(["apt-get", "install", "--simulate", "--yes", "--no-install-recommends", *words])
    for line in lines.splitlines():
        if line.startswith("Inst "):
            match = _INST.match(line)
            if match is None:
                raise EnvironmentLacksError(f"apt printed a line of unknown format: {line}")
            yield match["name"], match["version"]


def facts_of(
    run: Run, stage: DebStage, plan: Mapping[str, str], options: Sequence[str] = ()
) -> dict[str, Deb]:
    """Return the packages of ``plan`` (name to version) with hash and size from apt's lists.

    Raises ``EnvironmentLacksError`` if a package has no hash.
    """
    if not plan:
        return {}
    wanted = [f"{name}={version}" for name, version in plan.items()]
    text = run(["apt-cache", "show", *options, *wanted])
    debs = {}
    for stanza in text.strip().split("\n\n"):
        field = dict(re.findall(r"^([A-Za-z0-9-]+): (.*)$", stanza, flags=re.MULTILINE))
        if plan.get(field["Package"]) == field["Version"]:
            debs[field["Package"]] = Deb(
                name=field["Package"],
                version=field["Version"],
                architecture=field["Architecture"],
                stage=stage,
                sha256=field["SHA256"],
                size=int(field["Size"]),
            )
    missing = sorted(set(plan) - set(debs))
    if missing:
        raise EnvironmentLacksError(f"apt has no hash for {', '.join(missing)}", "apt-get update")
    return debs
