"""Turns BuildKit's output of a failed build into an error with cause and hint."""

import re

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, TrtyardError
from trtyard.known_failures.explanation import build_failure
from trtyard.system.processes import LINE_CHARACTERS, TAIL_LINES, CommandError

# Words of buildx when the engine or a builder stops before the build ends.
_ENGINE_GONE = (
    "cannot connect to the docker daemon",
    "error reading from server: eof",
    "code = unavailable",
    "transport is closing",
    "connection reset by peer",
    "is the docker daemon running",
)


def explained(error: CommandError) -> TrtyardError:
    """Return the error for a failed build: a wrong hash, disk, network, engine or a known cause."""
    tail = error.tail.lower()
    message = f"the build failed; {_failed_step(error.tail) or error.message}"
    if "no space left" in tail:
        return EnvironmentLacksError(
            f"the disk is full: {message}",
            "docker builder prune --all   frees the build cache,"
            " docker image prune   unused images",
        )
    hashes = ("hash mismatch", "do not match the hashes", "successfully: exit code: 5")
    if any(words in tail for words in hashes):
        return IntegrityError(
            f"a file does not match its hash in versions.lock: {message}",
            "do not use it; ./run lock --check checks the lock itself",
        )
    known = build_failure(error.tail)
    if known is not None:
        return EnvironmentLacksError(f"{message}\n  why: {known.cause}", known.hint)
    if any(words in tail for words in _ENGINE_GONE):
        return EnvironmentLacksError(
            f"the Docker engine stopped during the build: {message}",
            "sudo systemctl restart docker, then run the command again; built steps are cached",
        )
    network = ("dns error", "no such host", "failed to fetch", "temporary failure", "timed out")
    if any(words in tail for words in network):
        return EnvironmentLacksError(
            f"the network failed: {message}", "run the command again; downloads are cached"
        )
    return TrtyardError(message)


def _failed_step(output: str) -> str | None:
    """Return the failed stage and the last lines of its output, which BuildKit repeats."""
    text = output.replace("\r\n", "\n")
    found = re.search(
        r"^------\n > (\[[^\]]*\])[^\n]*\n(.+?)^------$", text, re.DOTALL | re.MULTILINE
    )
    if found is None:
        return None
    lines = [f"  {line[:LINE_CHARACTERS]}" for line in found[2].splitlines() if line.strip()]
    return f"step {found[1]} failed:\n" + "\n".join(lines[-TAIL_LINES:])
