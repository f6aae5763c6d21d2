"""What BuildKit says when a build fails, as an error with its cause and its hint."""

import re

from trtyard.core.errors import EnvironmentLacksError, IntegrityError, TrtyardError
from trtyard.known_failures.explanation import build_failure
from trtyard.system.processes import LINE_CHARACTERS, TAIL_LINES, CommandError

# What buildx says where the engine, or a builder, ends before the build.
_ENGINE_GONE = (
    "cannot connect to the docker daemon",
    "error reading from server: eof",
    "code = unavailable",
    "transport is closing",
    "connection reset by peer",
    "is the docker daemon running",
)


def explained(error: CommandError) -> TrtyardError:
    """Tell from the builder's words what was wrong: a hash, the disk, the network or the code."""
    tail = error.tail.lower()
    message = f"the image was not built; {_failed_step(error.tail) or error.message}"
    if "no space left" in tail:
        hint = "docker builder prune   frees the build cache, docker image prune   unused images"
        return EnvironmentLacksError(f"the disk is full: {message}", hint)
    hashes = ("hash mismatch", "do not match the hashes", "successfully: exit code: 5")
    if any(words in tail for words in hashes):
        return IntegrityError(
            f"something is not what versions.lock names: {message}",
            "do not use it; ./run lock --check shows whether the lock itself is sound",
        )
    known = build_failure(error.tail)
    if known is not None:
        return EnvironmentLacksError(f"{message}\n  why: {known.cause}", known.hint)
    if any(words in tail for words in _ENGINE_GONE):
        return EnvironmentLacksError(
            f"the Docker engine went away while it built: {message}",
            "sudo systemctl restart docker, then the same command again: what was built is kept",
        )
    network = ("dns error", "no such host", "failed to fetch", "temporary failure", "timed out")
    if any(words in tail for words in network):
        return EnvironmentLacksError(
            f"the network: {message}", "the same command again: what was fetched is kept"
        )
    return TrtyardError(message)


def _failed_step(said: str) -> str | None:
    """Return the stage that failed with the last lines of its output, as BuildKit repeats them."""
    text = said.replace("\r\n", "\n")
    found = re.search(
        r"^------\n > (\[[^\]]*\])[^\n]*\n(.+?)^------$", text, re.DOTALL | re.MULTILINE
    )
    if found is None:
        return None
    lines = [f"  {line[:LINE_CHARACTERS]}" for line in found[2].splitlines() if line.strip()]
    return f"its step {found[1]} failed:\n" + "\n".join(lines[-TAIL_LINES:])
