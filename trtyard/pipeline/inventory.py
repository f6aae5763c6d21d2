"""What an image really holds, compared with what its lists name: both ways.

Runs as the last build step that installs anything, in the image's own Python and from the standard
library alone. A package that is missing, too much or of another version ends the build.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, NamedTuple

BASE_FACTS = Path("/opt/trtyard/base.json")  # left there by a locally made base image
INTEGRITY_EXIT_CODE = 5


class Difference(NamedTuple):
    """One package that is not as its list says; an empty version stands for none."""

    name: str
    expected: str
    found: str

    def __str__(self) -> str:
        if not self.found:
            return f"missing: {self.name} {self.expected}"
        if not self.expected:
            return f"too much: {self.name} {self.found}"
        return f"other version: {self.name} {self.found}, expected {self.expected}"


def compare(expected: Dict[str, str], found: Dict[str, str]) -> List[Difference]:
    """Return what differs between two tables of name to version, by name."""
    names = sorted(set(expected) | set(found))
    pairs = ((name, expected.get(name, ""), found.get(name, "")) for name in names)
    return [Difference(*pair) for pair in pairs if pair[1] != pair[2]]


def read_debs(text: str) -> Dict[str, str]:
    """Read lines that start with a package's name and version."""
    return {words[0]: words[1] for words in map(str.split, text.splitlines()) if words}


def read_requirements(text: str) -> Dict[str, str]:
    """Read ``name==version --hash=...`` lines."""
    pins = (line.split()[0].partition("==") for line in text.splitlines() if line.strip())
    return {normalised(name): version for name, _, version in pins}


def normalised(name: str) -> str:
    """Return a Python package's name as PEP 503 compares it."""
    return name.replace("_", "-").replace(".", "-").lower()


def installed_debs() -> Dict[str, str]:
    """Return what dpkg has installed, name to version."""
    entries = "${db:Status-Abbrev}${Package} ${Version}\n"
    command = ["dpkg-query", "--show", "--showformat", entries]
    listed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    return read_debs("\n".join(line[3:] for line in listed.splitlines() if line[:2] == "ii"))


def installed_packages(environment: Path) -> Dict[str, Dict[str, str]]:
    """Return an environment's Python packages: name to version and the hash of its file list."""
    found = {}
    for metadata in sorted(environment.glob("lib/python3*/site-packages/*.dist-info/METADATA")):
        header = metadata.read_text(encoding="utf-8").partition("\n\n")[0]
        field = dict(line.split(": ", 1) for line in header.splitlines() if ": " in line)
        record = hashlib.sha256((metadata.parent / "RECORD").read_bytes()).hexdigest()
        name = normalised(field["Name"])
        found[name] = {"version": field["Version"], "record_sha256": record}
    return found


def without_declared(differences: Iterable[Difference], base: Dict[str, Any]) -> List[Difference]:
    """Drop the versions that a locally made base says it had to take instead of the locked ones.

    It may not declare a package that is missing or too much.
    """
    declared = {tuple(entry) for entry in base.get("other_versions", ())}
    return [
        one for one in differences if not (one.expected and one.found and tuple(one) in declared)
    ]


def main(arguments: List[str]) -> int:
    """Compare, write the inventory, return 0 or the exit code of a lock that does not match."""
    parser = argparse.ArgumentParser(prog="inventory")
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--debs", type=Path, nargs="+", required=True)
    parser.add_argument("--packages", type=Path, nargs="+", required=True)
    parser.add_argument("--write", type=Path, required=True)
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
        sys.stderr.write(f"inventory: not what versions.lock says, in {count} packages\n")
        return INTEGRITY_EXIT_CODE
    content = {"schema": 1, "base": base, "debs": debs, "packages": packages}
    options.write.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    sys.stdout.write(f"inventory: {len(debs)} debs and {len(packages)} packages, as locked\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
