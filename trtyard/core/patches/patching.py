"""Apply or reverse a patch series in a folder: completely and exactly, or not at all.

``python3 -I patching.py apply --series DIR --into ROOT`` works without installing trtyard, as in an
image build. All files are patched in memory and compared by hash before any is written. Applying
twice changes nothing. After a crash between two files, the same command finishes the work, and
``reverse`` undoes it.
"""

import argparse
import hashlib
import sys
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, TrtyardError, UsageError
from trtyard.core.file_changes import Change, change_together
from trtyard.core.patches.patch_set import UNRESOLVED, Patch, read_series
from trtyard.core.patches.unified_diff import FileDiff, MisfitError, changed

_STATE = {True: "patched", False: "unpatched"}
_REFUSED = "nothing was changed; these patches are for another release of the file"


class FileState(NamedTuple):
    """One file that a series changes; None means that the file does not exist."""

    path: str
    upstream: Optional[bytes]
    patched: Optional[bytes]
    is_patched: bool  # the state on disk


class _Link(NamedTuple):
    """One patch's change of a file."""

    patch: Patch
    diff: FileDiff
    on_all_before: bool  # all earlier patches of the series apply: its Result can be compared


def selected(patches: Sequence[Patch], releases: Optional[Mapping[str, str]]) -> Tuple[Patch, ...]:
    """Return the patches that these releases need; all patches for None."""
    return tuple(one for one in patches if releases is None or one.is_needed(releases))


def states(
    patches: Sequence[Patch], root: Path, releases: Optional[Mapping[str, str]] = None
) -> Tuple[FileState, ...]:
    """Return the state of every file that the needed patches of a series change.

    Args:
        patches: the whole series.
        root: the folder that the patches' paths are relative to.
        releases: product to version, see ``Patch.is_needed``; None takes every patch.

    Raises:
        IntegrityError: a file is neither upstream's nor the patched one, or a hunk does not apply.
    """
    chains: Dict[str, List[_Link]] = {}
    cut = set()
    needed = selected(patches, releases)
    for patch in patches:
        for diff in patch.diffs:
            if patch in needed:
                link = _Link(patch, diff, diff.path not in cut)
                chains.setdefault(diff.path, []).append(link)
            else:
                cut.add(diff.path)
    return tuple(_state(root, path, links) for path, links in chains.items())


def apply(
    patches: Sequence[Patch], root: Path, releases: Optional[Mapping[str, str]] = None
) -> Tuple[FileState, ...]:
    """Patch the files in ``root``; return their states before. See ``states``."""
    before = states(patches, root, releases)
    pending = [one for one in before if not one.is_patched]
    change_together([Change(root / one.path, one.upstream, one.patched) for one in pending])
    return before


def reverse(
    patches: Sequence[Patch], root: Path, releases: Optional[Mapping[str, str]] = None
) -> Tuple[FileState, ...]:
    """Reverse the patches; return the files' states before. See ``states``."""
    before = states(patches, root, releases)
    pending = [one for one in before if one.is_patched]
    change_together([Change(root / one.path, one.patched, one.upstream) for one in pending])
    return before


def result_sha256(files: Sequence[FileState]) -> str:
    """Return one hash for all patched files: of ``sha256sum``'s output, sorted by path."""
    lines = sorted((one.path, sha256(one.patched)) for one in files)
    text = "".join(f"{found}  {path}\n" for path, found in lines)
    return hashlib.sha256(text.encode()).hexdigest()


def sha256(text: Optional[bytes]) -> str:
    """Return the content's hash, or ``no file``."""
    return "no file" if text is None else hashlib.sha256(text).hexdigest()


def _state(root: Path, path: str, links: Sequence[_Link]) -> FileState:
    current = _content(root, path)
    made = not links[0].diff.old_exists
    expected = "no file" if made else links[0].patch.applies_to[path]
    if expected == sha256(current):
        return FileState(path, current, _forward(root, current, links), False)
    try:
        upstream = _backward(current, links)
    except MisfitError:
        upstream, is_patched = current, False
    else:
        is_patched = expected in (None, sha256(upstream))
    if expected is None:
        return _unresolved_state(root, path, links, current, upstream if is_patched else None)
    if not is_patched:
        known = links[-1].patch.results.get(path) if links[-1].on_all_before else None
        raise IntegrityError(
            f"{root / path} is neither upstream's file nor the patched file: expected sha256"
            f" {expected}{f' or {known}' if known else ''}, found {sha256(current)}",
            _REFUSED,
        )
    return FileState(path, upstream, _forward(root, upstream, links), True)


def _unresolved_state(
    root: Path,
    path: str,
    links: Sequence[_Link],
    current: Optional[bytes],
    taken_back: Optional[bytes],
) -> FileState:
    """Return a file's state from its hunks alone, if upstream's hash is unresolved.

    Raises:
        IntegrityError: the patches do not apply, or apply both forwards and backwards.
    """
    try:
        patched = _forward(root, current, links)
    except IntegrityError:
        if taken_back is None:
            raise
        return FileState(path, taken_back, current, True)
    if taken_back is not None:
        raise IntegrityError(
            f"{root / path}: {links[0].patch.name} applies forwards and backwards, and its header"
            f" has no hash to decide (sha256 {UNRESOLVED}), found {sha256(current)}",
            f"add upstream's sha256 to Applies-To in {links[0].patch.file}",
        )
    return FileState(path, current, patched, False)


def _forward(root: Path, text: Optional[bytes], links: Sequence[_Link]) -> Optional[bytes]:
    path = links[0].diff.path
    for patch, diff, on_all_before in links:
        try:
            text = changed(diff, text)
        except MisfitError as error:
            raise IntegrityError(
                f"{patch.name} does not apply to {root / path}: the file {error};"
                f" expected sha256 {patch.applies_to.get(path) or UNRESOLVED},"
                f" found {sha256(_content(root, path))}",
                _REFUSED,
            ) from None
        expected = patch.results.get(path)
        if on_all_before and expected not in (None, sha256(text)):
            raise IntegrityError(
                f"{patch.name}: the patched {path} does not match the header's Result: expected"
                f" sha256 {expected}, found {sha256(text)}",
                f"git checkout -- {patch.file}",
            )
    return text


def _backward(text: Optional[bytes], links: Sequence[_Link]) -> Optional[bytes]:
    for link in reversed(links):
        text = changed(link.diff, text, reverse=True)
    return text


def _content(root: Path, path: str) -> Optional[bytes]:
    file = root / path
    inside = file.parent.resolve() == (root.resolve() / path).parent
    if not inside or file.is_symlink() or (file.exists() and not file.is_file()):
        raise IntegrityError(f"{file} is not a regular file in {root}", "nothing was changed")
    return file.read_bytes() if file.exists() else None


def main(arguments: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="patching")
    parser.add_argument("command", choices=["apply", "reverse", "show"])
    parser.add_argument("--series", type=Path, required=True, help="folder with series and patches")
    parser.add_argument("--into", type=Path, required=True, help="folder with the files to patch")
    parser.add_argument(
        "--release",
        action="append",
        metavar="PRODUCT=VERSION",
        help="apply only the patches that this release needs: torch=1.4.0 or tensorrt=7.0.0.11; may"
        " be repeated",
    )
    options = parser.parse_args(list(arguments))
    try:
        return _run(options.command, options.series, options.into, options.release)
    except TrtyardError as error:
        return _say(error)
    except OSError as error:
        what = f"cannot change {error.filename or options.into}: {error.strerror}"
        return _say(EnvironmentLacksError(what, "nothing was changed"))


def _say(error: TrtyardError) -> int:
    sys.stderr.write(f"trtyard: {error}\n")
    return error.exit_code


def _run(command: str, folder: Path, root: Path, words: Optional[Sequence[str]]) -> int:
    releases = None if words is None else dict(_release(word) for word in words)
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder")
    patches = read_series(folder)
    work = {"apply": apply, "reverse": reverse, "show": states}[command]
    before = work(patches, root, releases)
    for one in before:
        is_patched = {"apply": True, "reverse": False}.get(command, one.is_patched)
        found = sha256(one.patched if is_patched else one.upstream)
        was = "already" if is_patched == one.is_patched else "now"
        sys.stdout.write(f"{one.path}: {was} {_STATE[is_patched]}, sha256 {found}\n")
    for patch in patches:
        if patch not in selected(patches, releases):
            sys.stdout.write(f"{patch.name}: not needed by these releases\n")
    sys.stdout.write(f"result: sha256 {result_sha256(before)}\n")
    return 0


def _release(word: str) -> Tuple[str, str]:
    product, equals, version = word.partition("=")
    if not equals or not version:
        raise UsageError(f"--release must be PRODUCT=VERSION, not {word!r}")
    return product, version


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
