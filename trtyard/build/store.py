"""The store: a folder with every file of a row, each with the hash in the lock.

``packages/`` has wheels and source distributions and ``debs/`` the distribution's packages, under
their usual names, so that pip, uv and dpkg can use them. ``sources/`` has the source repositories.
A file is written completely or not at all. A file with the right hash is not fetched again; a file
with a wrong hash is reported and left unchanged. uv and apt give the files' addresses, so their
settings for mirrors apply. No code of a package is run.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote, urlsplit

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, UsageError
from trtyard.core.files import PARTIAL_PREFIX, sha256_of, written_whole
from trtyard.fetching.http import http_session, index_login
from trtyard.fetching.mirrors import read_mirrors
from trtyard.fetching.sources import FOLDER as SOURCES
from trtyard.fetching.sources import check_source, fetch_source, sources_of
from trtyard.fetching.vendor import is_a_page, vendor_address
from trtyard.lock.debs import deb_filename, download_debs
from trtyard.lock.file import (
    Artifact,
    Deb,
    Lock,
    LockedRow,
    check_row,
    read_lock,
    refuse_unresolved,
    write_lock,
)
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.row import Row
from trtyard.render.dockerfiles import uv_requirement
from trtyard.system.folders import held_folder
from trtyard.system.processes import CommandError, output_of
from trtyard.system.reading import parse_toml
from trtyard.system.terminal import say
from trtyard.system.uv import GIGA, LOCK_FILE, MATRIX_FILE, ROOT, uv, uv_environment

if TYPE_CHECKING:
    from requests import Session

PACKAGES, DEBS = Path("packages"), Path("debs")
MEGA = 1e6
_PIECE = 1 << 20
_ANSWER_SECONDS = 60


# Words of uv when a server does not answer (as opposed to one that lacks the package).
_NO_ANSWER = re.compile(r"error sending request|client error \(Connect\)|dns error|timed out")


class _NoAnswerError(EnvironmentLacksError):
    """An index does not answer."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file that the store must have."""

    path: Path  # relative to the store
    sha256: str
    size: int  # bytes; 0 if not in the lock
    source: Artifact | Deb


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The wanted files, by their state in a store."""

    right: tuple[StoredFile, ...]
    missing: tuple[StoredFile, ...]
    wrong: tuple[tuple[StoredFile, str], ...]  # each with the hash found


def wanted_files(row: Row, locked: LockedRow, *, all_pythons: bool = False) -> list[StoredFile]:
    """Return every file of the row for the image's own Python, or for all its Pythons.

    uv, which installs them, is not included, see ``find_uv``.
    """
    pythons = row.pythons if all_pythons else (row.python,)
    packages = {
        one.filename: StoredFile(
            path=PACKAGES / one.filename, sha256=one.sha256, size=one.size, source=one
        )
        for one in (*locked.wheels, *locked.sdists)
        if set(pythons) & set(one.pythons)
    }
    return [*packages.values(), *(_stored_deb(deb) for deb in locked.debs if deb.sha256)]


def look_into(store: Path, wanted: Iterable[StoredFile]) -> Contents:
    """Return which wanted files the store has, lacks, or has with a wrong hash."""
    right, missing, wrong = [], [], []
    for one in wanted:
        file = store / one.path
        if not file.is_file():
            missing.append(one)
        elif (found := sha256_of(file)) == one.sha256:
            right.append(one)
        else:
            wrong.append((one, found))
    return Contents(right=tuple(right), missing=tuple(missing), wrong=tuple(wrong))


def fetch(row_name: str, into: str, *, pythons: str = "image") -> None:
    """Fetch the row's files that the store ``into`` lacks.

    Raises ``IntegrityError`` for a file with a wrong hash, ``EnvironmentLacksError`` for files that
    cannot be fetched.
    """
    if not into:
        raise UsageError("fetch needs a folder for the files", "./run fetch --into store")
    if pythons not in ("image", "all"):
        raise UsageError(f"--pythons must be image or all, not {pythons!r}")
    row = read_matrix(MATRIX_FILE).row(row_name)
    locked = read_lock(LOCK_FILE).row(row.name)
    check_row(row, locked)
    store = Path(into).resolve()
    if row.terms:
        say(f"the vendor's files of row {row.name} are subject to {row.terms}")
    with _held(store):
        wanted = wanted_files(row, locked, all_pythons=pythons == "all")
        _fetch_files(row, wanted, store, locked.snapshot)
        confirm_pins(row, store)
        for source in sources_of(row):
            fetch_source(source, store, read_mirrors())
    refuse_unresolved(locked)  # all files with a hash are in the store; fail if others are missing


@contextlib.contextmanager
def _held(store: Path) -> Iterator[None]:
    """Make the store, lock it against other runs, and remove partial files of killed runs."""
    try:
        for folder in (PACKAGES, DEBS):
            (store / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentLacksError(f"cannot make {store}: {error.strerror}") from None
    with held_folder(store, waiting=f"waiting for another run that fetches into {store}"):
        for folder in (store, *(store / one for one in (PACKAGES, DEBS, SOURCES))):
            for entry in folder.glob(f"{PARTIAL_PREFIX}*"):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        yield


def fetch_files(row: Row, wanted: list[StoredFile], store: Path) -> None:
    """Fetch the files of ``wanted`` that the store lacks, and the locked uv."""
    with _held(store):
        _fetch_files(row, wanted, store)


def have_debs(row: Row, locked: LockedRow, debs: Iterable[Deb], store: Path) -> Path:
    """Fetch missing distribution packages into the store; return their folder.

    Raises ``EnvironmentLacksError`` for packages that cannot be fetched, ``IntegrityError`` for one
    with a wrong hash.
    """
    with _held(store):
        contents = look_into(store, [_stored_deb(deb) for deb in debs])
        refuse_wrong(store, contents)
        if unobtained := list(_fetch_debs(row, store, contents.missing, locked.snapshot)):
            refuse_missing(store, unobtained)
    return store / DEBS


def have_vendor_files(artifacts: Iterable[Artifact], folder: Path) -> None:
    """Fetch missing files of the vendor's own index into the folder.

    Raises ``EnvironmentLacksError`` for a file that cannot be fetched, ``IntegrityError`` for one
    with a wrong hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with http_session() as session:
        for one in artifacts:
            target = folder / one.filename
            if target.is_file() and sha256_of(target) == one.sha256:
                continue
            if not _fetch_vendors(session, one, target):
                raise EnvironmentLacksError(
                    f"{one.filename}, sha256 {one.sha256}, cannot be fetched",
                    f"check [vendor] in mirrors.toml, or copy the file to {target}",
                )


def confirm_pins(row: Row, store: Path | None = None) -> None:
    """Mark the row's public pins in the lock as confirmed, after their files were downloaded.

    With a store, only the pins of files in it; without one all pins, because an image was built.
    """
    lock = read_lock(LOCK_FILE)
    locked = lock.row(row.name)
    seen = [
        one
        for one in locked.wheels
        if one.source == "public-pin" and (not store or (store / PACKAGES / one.filename).is_file())
    ]
    if not seen:
        return
    wheels = tuple(replace(one, source="vendor") if one in seen else one for one in locked.wheels)
    write_lock(LOCK_FILE, Lock(rows={**lock.rows, row.name: replace(locked, wheels=wheels)}))
    for one in seen:
        say(f"{one.filename} matches its public pin; versions.lock records that")


def _fetch_files(row: Row, wanted: list[StoredFile], store: Path, snapshot: str = "") -> None:
    contents = look_into(store, wanted)
    refuse_wrong(store, contents)
    lacking = contents.missing
    size = sum(one.size for one in lacking)
    _check_disk(store, size)
    say(
        f"row {row.name}: {len(contents.right)} files are in {store},"
        f" fetching {len(lacking)} more, {size / MEGA:.0f} MB"
    )
    unobtained = [
        *_fetch_packages(row, store, lacking),
        *_fetch_debs(row, store, lacking, snapshot),
    ]
    if unobtained:
        refuse_missing(store, unobtained)
    say(f"{store} is complete: {len(wanted) + 1} files")


def check_store(row: Row, locked: LockedRow, store: Path) -> None:
    """Check that the store has everything that an image's build needs.

    Raises ``UsageError`` if the folder does not exist, ``IntegrityError`` for files with a wrong
    hash, ``EnvironmentLacksError`` for missing files.
    """
    if not store.is_dir():
        raise UsageError(
            f"--store {store}: no such folder",
            f"./run fetch --trt {row.name} --into {store}",
        )
    wanted = [
        one
        for one in wanted_files(row, locked)
        if isinstance(one.source, Artifact) or one.source.stage == "unpacked"
    ]
    contents = look_into(store, wanted)
    refuse_wrong(store, contents)
    if contents.missing:
        refuse_missing(store, contents.missing)
    if find_uv(store) is None:
        name, version, hashes = _locked_uv()
        raise EnvironmentLacksError(
            f"{store} lacks {name} {version} for Linux x86_64; its sha256 is one of"
            f" {', '.join(sorted(hashes))}",
            f"./run fetch --trt {row.name} --into {store}",
        )
    for source in sources_of(row):
        check_source(source, store)


def checked_deb(store: Path, deb: Deb) -> Path:
    """Return the package's file in the store after checking its hash; errors as ``check_store``."""
    one = _stored_deb(deb)
    contents = look_into(store, [one])
    refuse_wrong(store, contents)
    if contents.missing:
        refuse_missing(store, contents.missing)
    return store / one.path


def find_uv(store: Path) -> Path | None:
    """Return the locked uv's wheel for Linux x86_64, or None if the store lacks it."""
    name, version, hashes = _locked_uv()
    for file in sorted((store / PACKAGES).glob(f"{name}-{version}-*x86_64*.whl")):
        if sha256_of(file) in hashes:
            return file
    return None


def refuse_wrong(store: Path, contents: Contents) -> None:
    """Raise ``IntegrityError`` for files with a wrong hash, with expected and found hash."""
    if contents.wrong:
        lines = [
            f"{store / one.path}: expected sha256 {one.sha256}, found {found}"
            for one, found in contents.wrong
        ]
        raise IntegrityError(
            "files do not match versions.lock:\n  " + "\n  ".join(lines),
            "remove them and fetch them again: ./run fetch",
        )


def refuse_missing(store: Path, missing: Iterable[StoredFile]) -> NoReturn:
    """Raise ``EnvironmentLacksError`` with name and sha256 of each missing file."""
    lines = [f"{store / one.path}: sha256 {one.sha256}" for one in missing]
    raise EnvironmentLacksError(
        "files are missing from the store:\n  " + "\n  ".join(lines),
        "run ./run fetch on a machine with a network, or copy the files there under these names",
    )


def _fetch_packages(row: Row, store: Path, lacking: Iterable[StoredFile]) -> Iterator[StoredFile]:
    """Fetch Python packages; yield those that cannot be fetched.

    After an index has not answered once, it is not asked for the other files.
    """
    answers = True
    with http_session() as session:
        for one in lacking:
            if not isinstance(one.source, Artifact):
                continue
            artifact = one.source
            if artifact.is_vendors:
                if not _fetch_vendors(session, artifact, store / one.path):
                    yield one
                continue
            python = row.python if row.python in artifact.pythons else artifact.pythons[0]
            entries: dict[str, tuple[str, str]] = {}
            try:
                if answers:
                    entries = _published(artifact.name, artifact.version, python, row.glibc)
            except _NoAnswerError as error:
                say(f"{error.message}; skipping its other files")
                answers = False
            place = entries.get(artifact.filename, ("", ""))[0]
            if place:
                say(f"{artifact.filename}, {artifact.size / MEGA:.1f} MB")
                _download(session, place, store / one.path, {one.sha256})
            else:
                yield one
        if find_uv(store) is None and answers:
            _fetch_uv(session, row, store)


def _fetch_vendors(session: "Session", artifact: Artifact, target: Path) -> bool:
    """Fetch a file of the vendor's own index; return whether that succeeded."""
    place = vendor_address(artifact.name, artifact.filename, read_mirrors())
    say(f"{artifact.filename} from {urlsplit(place).hostname}")
    try:
        _download(session, place, target, {artifact.sha256}, artifact.origin)
    except EnvironmentLacksError as error:
        say(error.message)
        return False
    return True


def _fetch_uv(session: "Session", row: Row, store: Path) -> None:
    name, version, hashes = _locked_uv()
    for filename, (place, sha256) in _published(name, version, row.python, row.glibc).items():
        fits = "manylinux" in filename and "x86_64" in filename
        if fits and sha256 in hashes:
            say(filename)
            return _download(session, place, store / PACKAGES / filename, {sha256})
    raise EnvironmentLacksError(
        f"no package index has {name} {version} for Linux x86_64",
        f"copy its wheel to {store / PACKAGES}; its sha256 is one of {', '.join(sorted(hashes))}",
    )


def _fetch_debs(
    row: Row, store: Path, lacking: Iterable[StoredFile], snapshot: str
) -> Iterator[StoredFile]:
    debs = {one.path.name: one for one in lacking if isinstance(one.source, Deb)}
    if not debs:
        return
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=store) as folder:
        asked = [one.source for one in debs.values() if isinstance(one.source, Deb)]
        download_debs(row, asked, Path(folder), snapshot)
        for name, one in debs.items():
            file = Path(folder, name)
            if not file.is_file():
                yield one
                continue
            _compare(file, one.path.name, {one.sha256})
            file.chmod(0o644)
            file.replace(store / one.path)


def _published(name: str, version: str, python: str, glibc: str) -> dict[str, tuple[str, str]]:
    """Return the files of that release on the index: file name to address and sha256."""
    with tempfile.TemporaryDirectory(prefix="trtyard-fetch-") as name_of_folder:
        folder = Path(name_of_folder)
        asked, answer = folder / "asked.in", folder / "pylock.toml"
        asked.write_text(f"{name}=={version}\n", encoding="utf-8")
        # Otherwise uv would run a source package's code to get its dependencies.
        told = f'name = "{name}"\nversion = "{version}"\nrequires-dist = []\n'
        (folder / "uv.toml").write_text(f"[[dependency-metadata]]\n{told}", encoding="utf-8")
        command: list[str | Path] = [uv(), "pip", "compile", "--quiet", "--no-deps"]
        command += ["--python-version", python, "--format", "pylock.toml"]
        command += ["--python-platform", f"x86_64-manylinux_{glibc.replace('.', '_')}"]
        try:
            command += ["--output-file", answer, asked]
            output_of(command, cwd=folder, env=uv_environment(folder))
        except CommandError as error:
            if _NO_ANSWER.search(error.tail):
                output = " ".join(error.tail.split())
                raise _NoAnswerError(f"a package index does not answer: {output}") from None
            say(f"{name} {version} not found: {error.tail.strip().splitlines()[-1]}")
            return {}
        (package,) = parse_toml(answer.read_text(encoding="utf-8"))["packages"]
        found = {}
        for entry in [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]:
            place = _place(entry, folder)
            filename = unquote(urlsplit(place).path.rpartition("/")[2])
            found[entry.get("name") or filename] = (place, entry["hashes"].get("sha256", ""))
        return found


def _place(entry: dict[str, Any], folder: Path) -> str:
    """Return the address of a file; for a local file, a ``file:`` address."""
    if "path" in entry:
        return Path(folder, str(entry["path"])).resolve().as_uri()
    return str(entry["url"])


def _download(
    session: "Session", place: str, target: Path, hashes: set[str], origin: str = ""
) -> None:
    """Download the file to ``target``, only if it is complete and has one of these hashes."""
    from requests import RequestException

    parts = urlsplit(place)
    with written_whole(target) as partial:
        try:
            if parts.scheme == "file":
                shutil.copyfile(unquote(parts.path), partial)
            else:
                login = index_login(place, os.environ)
                with session.get(place, stream=True, timeout=_ANSWER_SECONDS, auth=login) as answer:
                    answer.raise_for_status()
                    with partial.open("wb") as file:
                        for piece in answer.iter_content(_PIECE):
                            file.write(piece)
        except RequestException as error:  # is an OSError too, so it comes first
            status = "" if error.response is None else str(error.response.status_code)
            hint = "run the command again; fetched files are kept"
            if status in ("401", "403"):
                hint = "set up a login for this server, see docs/offline.md"
            raise EnvironmentLacksError(
                f"{target.name} was not fetched: {status or type(error).__name__} from"
                f" {parts.hostname}",
                hint,
            ) from None
        except OSError as error:
            raise EnvironmentLacksError(
                f"{target.name} was not written: {error.strerror}",
                "run the command again; fetched files are kept",
            ) from None
        _compare(partial, target.name, hashes, origin)


def _compare(file: Path, name: str, hashes: set[str], origin: str = "") -> None:
    """Raise ``IntegrityError`` if the file has none of the hashes; the message names ``origin``."""
    found = sha256_of(file)
    if found in hashes:
        return
    expected = f"expected sha256 {' or '.join(sorted(hashes))}{origin and f' ({origin})'}"
    if is_a_page(file):
        raise IntegrityError(
            f"{name}: the server sent a web page instead of the file, perhaps a login page;"
            f" {expected}",
            "set up a login for the server (docs/offline.md), or copy the file into a store",
        )
    raise IntegrityError(
        f"{name}: {expected}, found {found}",
        "the file was replaced, or a mirror altered it; it was not kept",
    )


def _check_disk(store: Path, size: int) -> None:
    free = shutil.disk_usage(store).free
    if free < size:
        raise EnvironmentLacksError(
            f"the files need {size / GIGA:.1f} GB, {store} has {free / GIGA:.1f} GB",
            "free some space, then run the command again",
        )


def _stored_deb(deb: Deb) -> StoredFile:
    return StoredFile(path=DEBS / deb_filename(deb), sha256=deb.sha256, size=deb.size, source=deb)


def _locked_uv() -> tuple[str, str, set[str]]:
    line = uv_requirement(ROOT / "requirements" / "host.txt")
    pin = line.split()[0]
    name, _, version = pin.partition("==")
    return name, version, set(re.findall(r"sha256:([0-9a-f]{64})", line))
