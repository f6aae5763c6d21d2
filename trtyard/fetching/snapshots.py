"""The distribution's snapshot service: all packages that its archive ever had, by date.

Debian has one (snapshot.debian.org). The keys of old Release files may have expired, so apt does
not verify them; the caller compares the packages with the lock's hashes.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from trtyard.fetching.mirrors import read_mirrors
from trtyard.matrix.compatibility import SUITES

HOST = "snapshot.debian.org"
_TIME = "%Y%m%dT%H%M%SZ"
# A package reaches the snapshots some hours after the archive publishes it.
_LATER = (timedelta(0), timedelta(days=1))
_ARCHIVES = (("debian", ""), ("debian", "-updates"), ("debian-security", "-security"))


def snapshot_address() -> str:
    """Return the address of the snapshot service, or of its mirror (``[apt]``)."""
    return read_mirrors().apt.get(HOST, f"http://{HOST}")


def snapshot_times(snapshot: str) -> tuple[str, ...]:
    """Return the times of the snapshots to use: ``snapshot``, and a day later."""
    return tuple(f"{datetime.strptime(snapshot, _TIME) + later:{_TIME}}" for later in _LATER)


def snapshot_sources(
    suite: str, snapshot: str, components: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yield apt's source lines for a suite of Debian at each of the times; else nothing."""
    if SUITES.get(suite, ("",))[0] != "debian":
        return
    words = " ".join(("main", *components))
    for time in snapshot_times(snapshot):
        yield [
            f"deb [trusted=yes check-valid-until=no] {snapshot_address()}/archive/{archive}/{time}"
            f" {suite}{suffix} {words}"
            for archive, suffix in _ARCHIVES
        ]
