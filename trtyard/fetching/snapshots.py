"""The distribution's snapshot service: all packages that its archive ever had, by date.

Its address comes from ``snapshots`` in mirrors.toml, or from this machine's apt sources. The keys
of old Release files may have expired, so apt does not verify them; the caller compares the packages
with the lock's hashes.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from trtyard.fetching.mirrors import read_mirrors
from trtyard.matrix.compatibility import SUITES

APT_FOLDER = Path("/etc/apt")
NO_SERVICE = "no snapshot service is known: set snapshots in mirrors.toml (docs/offline.md)"
_TIME = "%Y%m%dT%H%M%SZ"
# A package reaches the snapshots some hours after the archive publishes it.
_LATER = (timedelta(0), timedelta(days=1))
_ARCHIVES = (("debian", ""), ("debian", "-updates"), ("debian-security", "-security"))
# Debian's images name the service in a comment of their apt sources.
_NAMED = re.compile(r"(https?://\S+)/archive/debian[a-z-]*/\d{8}T\d{6}Z")


def snapshot_service() -> str:
    """Return the address of the snapshot service, or "" if this machine names none."""
    configured = read_mirrors().snapshots
    if configured:
        return configured
    for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"):
        for file in sorted(APT_FOLDER.glob(pattern)):
            if named := _NAMED.search(file.read_text(encoding="utf-8", errors="replace")):
                return named[1]
    return ""


def snapshot_times(snapshot: str) -> tuple[str, ...]:
    """Return the times of the snapshots to use: ``snapshot``, and a day later."""
    return tuple(f"{datetime.strptime(snapshot, _TIME) + later:{_TIME}}" for later in _LATER)


def has_snapshots(suite: str) -> bool:
    """Tell whether the suite's distribution has a snapshot service."""
    return SUITES.get(suite, ("",))[0] == "debian"


def snapshot_sources(
    suite: str, snapshot: str, service: str, components: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yield apt's source lines for a suite of Debian at each of the times."""
    words = " ".join(("main", *components))
    for time in snapshot_times(snapshot):
        yield [
            f"deb [trusted=yes check-valid-until=no] {service}/archive/{archive}/{time}"
            f" {suite}{suffix} {words}"
            for archive, suffix in _ARCHIVES
        ]
