"""The distribution's snapshot service: every package that its archive ever had, by date.

Debian keeps one (snapshot.debian.org). Its Release files are signed by keys that expire, so what is
taken from there is trusted for the lock's hash alone, with which the caller compares it.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from trtyard.fetching.mirrors import read_mirrors
from trtyard.matrix.compatibility import SUITES

HOST = "snapshot.debian.org"
_TIME = "%Y%m%dT%H%M%SZ"
# What an archive publishes reaches its snapshots some hours later.
_LATER = (timedelta(0), timedelta(days=1))
_ARCHIVES = (("debian", ""), ("debian", "-updates"), ("debian-security", "-security"))


def snapshot_address() -> str:
    """Return where the snapshot service is: its own host, or the mirror's place (``[apt]``)."""
    return read_mirrors().apt.get(HOST, f"http://{HOST}")


def snapshot_times(snapshot: str) -> tuple[str, ...]:
    """Return the times to ask for: ``snapshot``, and a day later."""
    return tuple(f"{datetime.strptime(snapshot, _TIME) + later:{_TIME}}" for later in _LATER)


def snapshot_sources(
    suite: str, snapshot: str, components: Sequence[str] = ()
) -> Iterator[list[str]]:
    """Yield apt's source lines for the suite at each of the times; of Debian alone."""
    if SUITES.get(suite, ("",))[0] != "debian":
        return
    words = " ".join(("main", *components))
    for time in snapshot_times(snapshot):
        yield [
            f"deb [trusted=yes check-valid-until=no] {snapshot_address()}/archive/{archive}/{time}"
            f" {suite}{suffix} {words}"
            for archive, suffix in _ARCHIVES
        ]
