"""A row's source repositories, each by its commit, with all submodules.

A commit's id is a hash of its files and of its submodules' commits, so it pins everything. One bare
repository holds the objects of a source and its submodules, and git verifies them. They may come
from a mirror (``mirrors.toml``, ``[git]``).
"""

import configparser
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.fetching.mirrors import NONE, Mirrors
from trtyard.matrix.row import Row
from trtyard.system.folders import make_own
from trtyard.system.processes import CommandError, Word, check, output_of
from trtyard.system.terminal import say

FOLDER = Path("sources")
HOST = "https://github.com"
HEADERS_REPOSITORY = "NVIDIA/TensorRT"
# Only this folder of the repository is used, without submodules.
_PARTS = {HEADERS_REPOSITORY: "include"}
_SUBMODULE = "160000"  # git's mode of an entry that is another repository's commit
# Give up if the server sends less than 1000 bytes/s for 30 s.
_SPEED_LIMIT = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=30")
_NO_SUCH_COMMIT = re.compile(r"not our ref|unadvertised object|no such remote ref|bad object")


@dataclass(frozen=True, kw_only=True)
class Source:
    """A repository at a commit that a row is built from."""

    repository: str  # owner/name
    commit: str

    @property
    def address(self) -> str:
        """The address of the repository."""
        return f"{HOST}/{self.repository}.git"

    @property
    def part(self) -> str:
        """The only folder that is used, without submodules; "" for the whole repository."""
        return _PARTS.get(self.repository, "")

    @property
    def name(self) -> str:
        """The folder's name in the Dockerfile."""
        return self.repository.rpartition("/")[2]

    def kept_in(self, store: Path) -> Path:
        """Return the path of its bare repository in a store."""
        return store / FOLDER / f"{self.name}-{self.commit}.git"


def sources_of(row: Row) -> tuple[Source, ...]:
    """Return the row's source repositories."""
    return tuple(
        Source(repository=repository, commit=commit) for repository, commit in row.commits.items()
    )


def fetch_source(source: Source, store: Path, mirrors: Mirrors = NONE) -> Path:
    """Fetch the commit and its submodules into the store; return the bare repository.

    A repository that is already in the store is checked and not fetched again. Raises
    ``EnvironmentLacksError`` if git is not installed or the commit cannot be fetched; the store
    then stays unchanged.
    """
    kept = source.kept_in(store)
    if kept.exists():
        check_source(source, store)
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=kept.parent) as folder:
        partial = Path(folder, "repository")
        git = _Git(partial, mirrors)
        git.make()
        say(f"{source.repository} at {source.commit}")
        for _, address, commit in _with_submodules(git, source, fetching=True):
            say(f"  {address} at {commit[:12]}")
        try:
            partial.replace(kept)
        except OSError:
            if not kept.is_dir():
                raise
            check_source(source, store)  # another run was faster
    return kept


def fetch_files(source: Source, folder: Path, mirrors: Mirrors = NONE) -> Path:
    """Fetch the commit without its submodules; return a folder in ``folder`` with its files.

    Raises ``EnvironmentLacksError`` if git is not installed or the commit cannot be fetched.
    """
    git = _Git(folder / "repository", mirrors)
    git.make()
    git.fetch(source.address, source.commit)
    git.checkout(source.commit, folder / source.name)
    return folder / source.name


def check_source(source: Source, store: Path) -> None:
    """Check that the store has the complete commit.

    Raises ``EnvironmentLacksError`` if the store does not have it, ``IntegrityError`` if an object
    of the commit or of a submodule is missing or does not match its hash.
    """
    kept = source.kept_in(store)
    if not kept.is_dir():
        raise EnvironmentLacksError(
            f"the store lacks {source.repository} at {source.commit}: {kept} does not exist",
            "run this on a machine with a network: ./run fetch",
        )
    try:
        with _objects_of(kept) as git:
            commits = [commit for _, _, commit in _with_submodules(git, source)]
            git.quiet("fsck", "--full", "--no-dangling", "--no-progress", *commits)
    except CommandError as error:
        raise IntegrityError(
            f"{kept} is incomplete or damaged ({source.repository} at {source.commit}):"
            f" {_reason(error)}",
            "remove it and fetch it again: ./run fetch",
        ) from None


def export_source(source: Source, store: Path, into: Path) -> None:
    """Check out the commit and its submodules into the folder ``into``/NAME, and replace that.

    ``into`` must be trtyard's own folder or new.
    """
    make_own(into)
    with (
        _objects_of(source.kept_in(store)) as git,
        tempfile.TemporaryDirectory(prefix=".partial-", dir=into) as folder,
    ):
        partial = Path(folder, source.name)
        for path, _, commit in _with_submodules(git, source):
            git.checkout(commit, partial / path)
        if source.part:
            for entry in partial.iterdir():
                if entry.name != source.part:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        final = into / source.name
        if final.exists():
            shutil.rmtree(final)
        partial.replace(final)


def _with_submodules(
    git: "_Git", source: Source, *, fetching: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Yield path, address and commit of the source and of each submodule, outer ones first.

    With ``fetching``, fetch each before it is yielded.
    """
    waiting = [("", source.address, source.commit)]
    while waiting:
        path, address, commit = waiting.pop(0)
        if fetching:
            git.fetch(address, commit)
        yield path, address, commit
        if source.part:
            return
        waiting += [
            (f"{path}/{inner}".lstrip("/"), urljoin(f"{address.rstrip('/')}/", place), inner_commit)
            for inner, place, inner_commit in _submodules(git, commit)
        ]


def _submodules(git: "_Git", commit: str) -> list[tuple[str, str, str]]:
    """Return path, address and commit of a commit's direct submodules."""
    entries = git.quiet("ls-tree", "-r", "-z", "--full-tree", commit).split("\0")
    split = (entry.partition("\t") for entry in entries if entry)
    commits = {path: words.split() for words, _, path in split if words.startswith(_SUBMODULE)}
    if not commits:
        return []
    settings = configparser.ConfigParser(interpolation=None, strict=False)
    text = git.quiet("cat-file", "blob", f"{commit}:.gitmodules")
    settings.read_string("\n".join(line.strip() for line in text.splitlines()))
    places = {settings[one].get("path", ""): settings[one].get("url", "") for one in settings}
    # A submodule that is not in .gitmodules has no address; git's checkout skips it too.
    return [(path, places[path], words[2]) for path, words in commits.items() if places.get(path)]


@contextlib.contextmanager
def _objects_of(kept: Path) -> Iterator["_Git"]:
    """Yield a git that uses only the objects of a store's repository, which their hashes verify.

    The repository's settings, attributes and replacements have no hash. They could change what a
    checkout writes, or run commands.
    """
    with tempfile.TemporaryDirectory(prefix="trtyard-git-") as folder:
        git = _Git(Path(folder, "repository"))
        git.make()
        if (kept / "shallow").is_file():  # only lists commits whose parents are missing
            shutil.copyfile(kept / "shallow", git.repository / "shallow")
        git.environment = {"GIT_OBJECT_DIRECTORY": str(kept.absolute() / "objects")}
        yield git


class _Git:
    def __init__(self, repository: Path, mirrors: Mirrors = NONE) -> None:
        self.repository, self.mirrors = repository, mirrors
        self.environment: Mapping[str, str] = {}

    def words(self, *words: Word) -> list[Word]:
        # These settings make files the same as in the commit on every machine.
        return [
            *("git", "--git-dir", self.repository, "-c", "core.autocrlf=false"),
            *("-c", "core.commitGraph=false", "-c", "core.multiPackIndex=false"),
            *self.mirrors.git_settings(),
            *words,
        ]

    def quiet(self, *words: Word, env: Mapping[str, str] | None = None) -> str:
        env = {**_environment(), **self.environment, **(env or {})}
        return output_of(self.words(*words), env=env)

    def make(self) -> None:
        """Make the repository, without this machine's template for new ones."""
        self.quiet("init", "--quiet", "--bare", "--template=", self.repository)

    def checkout(self, commit: str, folder: Path) -> None:
        """Write the commit's files into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="trtyard-index-") as own:
            # Ignore the user's settings: they may have filters and attributes for files.
            index = {
                "GIT_INDEX_FILE": str(Path(own, "index")),
                **dict.fromkeys(("HOME", "XDG_CONFIG_HOME"), own),
                **dict.fromkeys(("GIT_CONFIG_NOSYSTEM", "GIT_ATTR_NOSYSTEM"), "1"),
                "GIT_CONFIG_GLOBAL": os.devnull,
                "GIT_CONFIG_COUNT": "0",
                "GIT_CONFIG_PARAMETERS": "",
            }
            self.quiet("read-tree", commit, env=index)
            self.quiet("--work-tree", folder, "checkout-index", "--all", "--force", env=index)

    def fetch(self, address: str, commit: str) -> None:
        """Fetch one commit; if the server offers only the ends of branches, fetch all branches."""
        mark = f"refs/trtyard/{commit}"
        wanted = (*_SPEED_LIMIT, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules")
        try:
            try:
                self.quiet(*wanted, "--depth", "1", address, f"{commit}:{mark}")
            except CommandError as error:
                if not _NO_SUCH_COMMIT.search(error.tail):
                    raise
                say(f"  {address} cannot serve a single commit: fetching all branches")
                everything = ("+refs/heads/*:refs/trtyard/heads/*", "+refs/tags/*:refs/trtyard/t/*")
                check(self.words(*wanted, address, *everything), env=_environment())
                self.quiet("update-ref", mark, f"{commit}^{{commit}}")
        except CommandError as error:
            raise EnvironmentLacksError(
                f"{address} at {commit} cannot be fetched: {_reason(error)}",
                "check the network, a proxy (HTTPS_PROXY) or a mirror (mirrors.toml, [git])",
            ) from None


def _environment() -> dict[str, str]:
    # Without GIT_TERMINAL_PROMPT=0 git could wait for a password forever. Variables that point git
    # to another repository are removed.
    env = {key: value for key, value in os.environ.items() if key not in _CONTRADICTING}
    env.update(GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_NO_REPLACE_OBJECTS="1")
    if bundle := env.get("SSL_CERT_FILE"):
        env.setdefault("GIT_SSL_CAINFO", bundle)
    return env


_CONTRADICTING = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_NAMESPACE",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
)


def _reason(error: CommandError) -> str:
    lines = [line.strip() for line in error.tail.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return [*(fatal or lines), "git printed no reason"][0]
