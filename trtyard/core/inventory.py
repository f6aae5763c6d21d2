"""Compare the contents of an image with the lock, and write the image's inventory.

Runs after the last build step that installs anything, in the image's Python, standard library only.
The build fails if a package is missing, extra or has another version, and if a file differs from
its package's RECORD (binary distribution format, PyPA) or is in no RECORD.
"""

import argparse
import base64
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple

BASE_FACTS = Path("/opt/trtyard/base.json")  # written in a local base image
INTEGRITY_EXIT_CODE = 5
SCHEMA = 3
LICENSE_REF = "LicenseRef-"  # SPDX's prefix for a license that is not on its list
# In order of preference; RECORD may contain no weaker hash (PEP 427).
ALGORITHMS = ("sha256", "sha384", "sha512")
# libc.so, libc.so.6, _C.cpython-311-x86_64-linux-gnu.so
_LIBRARY = re.compile(r".+\.so(\.\d+)*")
# Files that uv's venv adds to site-packages for an old Python.
_ENVIRONMENT_FILES = ("_virtualenv.py", "_virtualenv.pth")
_PIECE = 1 << 20
# License-Expression must be an SPDX expression (PEP 639); the older License may be any text.
_EXPRESSION = re.compile(r"[A-Za-z0-9.+() -]+")
_LICENSE_CLASSIFIER = "License :: "
_NAME_LENGTH = 80  # a longer License field is a text, not a name


class Difference(NamedTuple):
    """One package that differs from the lock; an empty version means that there is none."""

    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        if not self.found:
            return f"missing: {self.name} {self.expected}"
        if not self.expected:
            return f"extra: {self.name} {self.found}"
        return f"other version: {self.name} {self.found}, expected {self.expected}"


class Recorded(NamedTuple):
    """A file in a package's RECORD with its hash, such as ``sha256=...`` in hex."""

    package: str
    path: Path
    expected: str


class Damage(NamedTuple):
    """A file that differs from its package's RECORD, with both hashes as in ``Recorded``."""

    package: str
    path: str
    expected: str
    found: str

    def __str__(self) -> str:
        if not self.package:
            return f"extra: {self.path} ({self.found}) belongs to no package"
        return f"damaged: {self.package}: {self.path}: expected {self.expected}, found {self.found}"


def compare(expected: Dict[str, str], found: Dict[str, str]) -> List[Difference]:
    """Return the differences between two mappings of name to version, sorted by name."""
    names = sorted(set(expected) | set(found))
    pairs = ((name, expected.get(name, ""), found.get(name, "")) for name in names)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def read_debs(text: str) -> Dict[str, str]:
    """Return name to version from lines that start with a package's name and version."""
    return {words[0]: words[1] for words in map(str.split, text.splitlines()) if words}


def read_requirements(text: str) -> Dict[str, str]:
    """Return name to version from lines ``name==version --hash=...``."""
    pins = (line.split()[0].partition("==") for line in text.splitlines() if line.strip())
    return {normalised(name): version for name, _, version in pins}


def normalised(name: str) -> str:
    """Return a Python package's normalized name (PEP 503)."""
    return name.replace("_", "-").replace(".", "-").lower()


def installed_debs() -> Dict[str, str]:
    """Return the installed Debian packages, name to version."""
    entries = "${db:Status-Abbrev}${Package} ${Version}\n"
    command = ["dpkg-query", "--show", "--showformat", entries]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    return read_debs("\n".join(line[3:] for line in listed.splitlines() if line[:2] == "ii"))


class License(NamedTuple):
    """A package's declared license: an SPDX expression, or else free-form names."""

    expression: str
    named: str


class Package(NamedTuple):
    """An installed Python package and its ``.dist-info`` folder."""

    name: str
    version: str
    folder: Path
    license: License


def python_packages(environment: Path) -> List[Package]:
    """Return an environment's Python packages."""
    found = []
    for metadata in sorted(environment.glob("lib/python3*/site-packages/*.dist-info/METADATA")):
        header = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"))
        name, version = normalised(header["Name"]), header["Version"]
        found.append(Package(name, version, metadata.parent, license_of(header)))
    return found


def license_of(metadata: Message) -> License:
    """Return the license in a package's core metadata (PyPA)."""
    named = str(metadata.get("License", "")).strip()
    expression = str(metadata.get("License-Expression", ""))
    if not expression and named.startswith(LICENSE_REF):
        expression = named
    if _EXPRESSION.fullmatch(expression):
        return License(expression, "")
    names = [] if "\n" in named or len(named) > _NAME_LENGTH or named == "UNKNOWN" else [named]
    for classifier in metadata.get_all("Classifier", []):
        if str(classifier).startswith(_LICENSE_CLASSIFIER):
            names.append(str(classifier)[len(_LICENSE_CLASSIFIER) :])
    return License("", "; ".join(filter(None, names)))


def installed_packages(environment: Path) -> Dict[str, Dict[str, str]]:
    """Return an environment's Python packages by name: version, license, hash of the file list."""
    found = {}
    for one in python_packages(environment):
        record = hashlib.sha256((one.folder / "RECORD").read_bytes()).hexdigest()
        facts = {"version": one.version, "record_sha256": record}
        facts.update(license=one.license.expression, license_named=one.license.named)
        found[one.name] = {key: fact for key, fact in facts.items() if fact}
    return found


def recorded_files(environment: Path) -> List[Recorded]:
    """Return the files of an environment that have a hash in a RECORD, by package."""
    return [
        file for one in python_packages(environment) for file in read_record(one.name, one.folder)
    ]


def read_record(package: str, metadata: Path) -> List[Recorded]:
    """Return the files with a hash in ``metadata/RECORD``; RECORD and bytecode have none."""
    found = []
    with (metadata / "RECORD").open(encoding="utf-8", newline="") as lines:
        for path, digest, _ in csv.reader(lines):
            algorithm, _, code = digest.partition("=")
            if not code:
                continue
            content = base64.urlsafe_b64decode(code + "=" * (-len(code) % 4))
            # normpath resolves parts like ../../../bin without following symlinks.
            file = Path(os.path.normpath(str(metadata.parent / path)))
            found.append(Recorded(package, file, f"{algorithm}={content.hex()}"))
    return found


def unrecorded_files(environment: Path) -> List[str]:
    """Return the files in an environment's lib folder that are in no RECORD.

    Bytecode of recorded files and symlinks to them are left out.
    """
    known = {str(path) for one in python_packages(environment) for path in _named(one.folder)}
    found = []
    for path in sorted(environment.glob("lib/**/*")):
        if path.is_dir() or str(path) in known or path.name in _ENVIRONMENT_FILES:
            continue
        stands_for = path
        if path.is_symlink():
            stands_for = Path(os.path.normpath(str(path.parent / os.readlink(str(path)))))
        elif path.suffix == ".pyc" and path.parent.name == "__pycache__":
            stands_for = path.parent.parent / (path.name.partition(".")[0] + ".py")
        if str(stands_for) not in known:
            found.append(str(path))
    return found


def _named(metadata: Path) -> List[Path]:
    """Return every file in ``metadata/RECORD``, with a hash or without."""
    with (metadata / "RECORD").open(encoding="utf-8", newline="") as lines:
        return [Path(os.path.normpath(str(metadata.parent / row[0]))) for row in csv.reader(lines)]


def hash_of(path: Path, algorithm: str) -> str:
    """Return a file's hash in the form of ``Recorded``, or the reason why there is none."""
    if algorithm not in ALGORITHMS:
        return f"unsupported hash algorithm: {algorithm}"
    digest = hashlib.new(algorithm)
    try:
        with path.open("rb") as stream:
            for piece in iter(lambda: stream.read(_PIECE), b""):
                digest.update(piece)
    except OSError as error:
        return f"none ({error.strerror})"
    return f"{algorithm}={digest.hexdigest()}"


def with_patches(files: Iterable[Recorded], patched: Iterable[str]) -> List[Recorded]:
    """Return the files with the expected hash of each patched file replaced.

    Args:
        files: from the RECORD files.
        patched: ``PATH=SHA256`` of each patched file, the path relative to site-packages.

    Raises:
        ValueError: a path is in no package.
    """
    hashes = dict(one.split("=", 1) for one in patched)
    changed, found = set(), []
    for one in files:
        inside = one.path.as_posix().partition("/site-packages/")[2]
        if inside in hashes:
            changed.add(inside)
            found.append(one._replace(expected="sha256=" + hashes[inside]))
        else:
            found.append(one)
    for path in sorted(set(hashes) - changed):
        raise ValueError(f"patched file belongs to no package: {path}")
    return found


def verified(files: Iterable[Recorded]) -> List[Damage]:
    """Return the files whose content differs from the recorded hash; hashes them in parallel.

    If several packages have the same path, the content must match one of them.
    """
    wanted: Dict[Path, List[Recorded]] = {}
    for one in files:
        wanted.setdefault(one.path, []).append(one)

    def check(same: List[Recorded]) -> List[Damage]:
        expected = [one.expected for one in same]
        found = [hash_of(same[0].path, one.partition("=")[0]) for one in sorted(set(expected))]
        if set(expected) & set(found):
            return []
        return [Damage(one.package, str(one.path), one.expected, found[0]) for one in same]

    # hashlib releases the GIL. Largest files first, so that the threads end at the same time.
    largest = sorted(wanted.values(), key=lambda same: -_size(same[0].path))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        damaged = [one for several in pool.map(check, largest) for one in several]
    return sorted(damaged)


def native_libraries(environment: Path, files: Iterable[Recorded]) -> List[Dict[str, Any]]:
    """Return the environment's shared libraries, sorted by path: package, hash, size in bytes.

    The hashes are those of RECORD: call ``verified`` first. The package is "" if there is none.
    """
    known = {one.path: one for one in files}
    found = []
    for path in sorted(environment.glob("lib/**/*")):
        if not _LIBRARY.fullmatch(path.name) or path.is_dir():
            continue
        entry: Dict[str, Any] = {"path": str(path)}
        if path.is_symlink() and path not in known:
            entry["link"] = os.readlink(str(path))
        else:
            one = known.get(path)
            digest = one.expected if one else hash_of(path, ALGORITHMS[0])
            algorithm, _, value = digest.partition("=")
            entry.update({algorithm: value, "size": _size(path)})
            entry["package"] = one.package if one else ""
        found.append(entry)
    return found


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def without_declared(differences: Iterable[Difference], base: Dict[str, Any]) -> List[Difference]:
    """Return the differences without the other versions that a local base declares.

    Missing and extra packages stay, even if the base declares them.
    """
    declared = {tuple(entry) for entry in base.get("other_versions", ())}
    return [
        one for one in differences if not (one.expected and one.found and tuple(one) in declared)
    ]


def main(arguments: List[str]) -> int:
    """Compare the image with the lock and write its inventory; return 0, or 5 if they differ."""
    parser = argparse.ArgumentParser(prog="inventory")
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--debs", type=Path, nargs="+", required=True)
    parser.add_argument("--packages", type=Path, nargs="+", required=True)
    parser.add_argument("--write", type=Path, required=True)
    parser.add_argument("--patched", action="append", default=[], metavar="PATH=SHA256")
    options = parser.parse_args(arguments)
    base = json.loads(BASE_FACTS.read_text(encoding="utf-8")) if BASE_FACTS.is_file() else {}
    debs, packages = installed_debs(), installed_packages(options.environment)
    expected_debs: Dict[str, str] = {}
    expected_packages: Dict[str, str] = {}
    for file in options.debs:
        expected_debs.update(read_debs(file.read_text(encoding="utf-8")))
    for file in options.packages:
        expected_packages.update(read_requirements(file.read_text(encoding="utf-8")))
    versions = {name: facts["version"] for name, facts in packages.items()}
    differences = without_declared(compare(expected_debs, debs), base)
    differences += compare(expected_packages, versions)
    for difference in differences:
        sys.stderr.write(f"inventory: {difference}\n")
    if differences:
        count = len(differences)
        sys.stderr.write(f"inventory: {count} packages differ from versions.lock\n")
        return INTEGRITY_EXIT_CODE
    try:
        files = with_patches(recorded_files(options.environment), options.patched)
    except ValueError as error:
        sys.stderr.write(f"inventory: {error}\n")
        return INTEGRITY_EXIT_CODE
    damaged = verified(files)
    damaged += [
        Damage("", path, "", hash_of(Path(path), ALGORITHMS[0]))
        for path in unrecorded_files(options.environment)
    ]
    for one in damaged:
        sys.stderr.write(f"inventory: {one}\n")
    if damaged:
        count = len(damaged)
        sys.stderr.write(f"inventory: {count} files differ from their packages' RECORD\n")
        return INTEGRITY_EXIT_CODE
    libraries = native_libraries(options.environment, files)
    content = {
        "schema": SCHEMA,
        "base": base,
        "debs": debs,
        "packages": packages,
        "libraries": libraries,
    }
    options.write.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    others = len(base.get("other_versions", ()))
    as_locked = "as locked"
    if others:
        as_locked += f" except {others} debs that the base has in another version"
    sys.stdout.write(
        f"inventory: {len(debs)} debs and {len(packages)} packages, {as_locked};"
        f" {len(files)} files match their hashes, including {len(libraries)} native libraries\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
