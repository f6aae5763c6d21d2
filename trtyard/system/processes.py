"""The only command runner: echoes the quoted command, streams its output, keeps the last lines.

A child runs in a session of its own. Ctrl-C and SIGTERM end its process group before the
interruption is raised, so no process keeps writing afterwards.
"""

import contextlib
import fcntl
import os
import re
import selectors
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from trtyard.core.errors import EnvironmentLacksError
from trtyard.system.interruptions import held_back
from trtyard.system.plain_text import Plain

TAIL_BYTES = 1 << 16
TAIL_LINES = 15
LINE_CHARACTERS = 300  # a compiler's command line would fill the screen
# Signals that end a child, each with the seconds to wait before the next.
_ENDING_SIGNALS = ((signal.SIGINT, 5.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 1.0))
_AFTER_LEADER_SECONDS = 0.3
COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE")  # ask for colours although the output is no terminal
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_DIM, _PLAIN = "\033[2m", "\033[0m"

Word = str | Path
_echo = False


class CommandError(EnvironmentLacksError):
    """A command failed; ``tail`` holds the end of its output."""

    def __init__(self, command: Sequence[Word], code: int, tail: str) -> None:
        self.code, self.tail = code, _TERMINAL_CODES.sub("", tail)
        printed = [line for line in self.tail.splitlines() if line.strip()]
        lines = [f"  {line[:LINE_CHARACTERS]}" for line in printed[-TAIL_LINES:]]
        output = ":\n" + "\n".join(lines) if lines else " and printed nothing"
        super().__init__(f"{Path(command[0]).name} failed with exit code {code}{output}")


def set_echo(on: bool) -> None:
    """Set whether every command is printed before it runs."""
    global _echo
    _echo = on


def quoted(command: Sequence[Word]) -> str:
    """Return the command quoted for a shell."""
    return shlex.join(str(word) for word in command)


def run(
    command: Sequence[Word],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    """Run with the output streams of this process; return the exit code."""
    with running(command, cwd, env, None, pass_fds) as child:
        return child.wait()


@contextlib.contextmanager
def in_background(
    command: Sequence[Word],
    *,
    output: int | None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run beside the block, with both output streams in the file descriptor ``output``.

    None leaves the output streams of this process. An exception in the block ends the command.
    """
    with running(command, cwd, env, output) as child:
        yield child


def run_plainly(command: Sequence[Word], *, env: Mapping[str, str] | None = None) -> int:
    """Run like ``run``, with terminal codes removed from the output; return the exit code.

    Returns when the command ends, even if a process that it started keeps its output open.
    """
    relay = None
    try:
        with running(command, None, env, subprocess.PIPE) as child:
            relay = _Relay(child)
            return relay.until_ended()
    except BaseException:
        if relay is not None:  # the child's last output, about the interruption
            relay.drain()
        raise
    finally:
        if relay is not None:
            relay.close()


class _Relay:
    """Passes on both output streams of a child as they arrive, without terminal codes."""

    _ENDED_SECONDS = 0.2  # poll interval: the child may end while its output stays open

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = child
        self._selector = selectors.DefaultSelector()
        for stream, to in ((child.stdout, sys.stdout), (child.stderr, sys.stderr)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._selector.register(stream, selectors.EVENT_READ, (to.fileno(), Plain()))

    def until_ended(self) -> int:
        """Pass on output until the child ends; return its exit code."""
        while self._selector.get_map():
            ended = self._child.poll() is not None
            self._pass_on(0 if ended else self._ENDED_SECONDS)
            if ended:
                break
        code = self._child.wait()
        self.drain()
        return code

    def drain(self) -> None:
        """Pass on the output that has already arrived."""
        with contextlib.suppress(BrokenPipeError):
            while self._pass_on(0):
                pass
            for key in list(self._selector.get_map().values()):
                self._end(key)

    def close(self) -> None:
        """Close the streams."""
        self._selector.close()
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

    def _pass_on(self, seconds: float) -> bool:
        """Pass on one piece of each ready stream; tell whether there was any."""
        found = False
        for key, _ in self._selector.select(seconds):
            try:
                piece = os.read(key.fd, 1 << 16)
            except BlockingIOError:
                continue
            if piece:
                found = True
                _write_all(key.data[0], key.data[1].feed(piece))
            else:
                self._end(key)
        return found

    def _end(self, key: selectors.SelectorKey) -> None:
        self._selector.unregister(key.fileobj)
        _write_all(key.data[0], key.data[1].rest())


def _write_all(descriptor: int, text: bytes) -> None:
    while text:
        text = text[os.write(descriptor, text) :]


def check(
    command: Sequence[Word],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> None:
    """Run with all output on stderr; on failure raise ``CommandError`` with the last lines."""
    on_terminal = sys.stderr.isatty()
    reader, writer = _terminal() if on_terminal else os.pipe()
    tail = b""
    try:
        with running(command, cwd, env, writer, pass_fds) as child:
            os.close(writer)
            writer = -1
            for piece in _pieces(reader):
                os.write(sys.stderr.fileno(), piece)
                tail = (tail + piece)[-TAIL_BYTES:]
            code = child.wait()
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if code != 0:
        raise CommandError(command, code, tail.decode(errors="replace"))


def output_of(
    command: Sequence[Word],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    errors: bool = False,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run quietly; return stdout, and with ``errors`` stderr after it.

    Variables that force colours are removed from ``env``. Raises ``CommandError`` on failure.
    """
    given = os.environ if env is None else env
    plain = {name: value for name, value in given.items() if name not in COLOURS}
    with running(command, cwd, plain, subprocess.PIPE, pass_fds) as child:
        out, err = child.communicate()
    if child.returncode != 0:
        raise CommandError(command, child.returncode, (out + err).decode(errors="replace"))
    return (out + err if errors else out).decode(errors="replace")


@contextlib.contextmanager
def running(
    command: Sequence[Word],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    output: int | None,
    pass_fds: Sequence[int] = (),
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a command for the block; an exception in the block ends its process group."""
    words = [str(word) for word in command]
    if _echo:
        line = quoted(words)
        sys.stderr.write(f"{_DIM}{line}{_PLAIN}\n" if sys.stderr.isatty() else f"{line}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    child = None
    try:
        with held_back():
            child = _started(words, cwd, env, output, pass_fds)
        yield child
    except BaseException:
        if child is not None:
            _end_group(child)
        raise


def _started(
    words: list[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    output: int | None,
    pass_fds: Sequence[int],
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    except FileNotFoundError:
        raise EnvironmentLacksError(f"{words[0]} is not installed") from None
    except PermissionError:
        raise EnvironmentLacksError(f"no permission to execute {words[0]}") from None


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """End the child and every process that it started.

    Some ignore SIGINT, such as a shell's background jobs, so stronger signals follow. Another
    Ctrl-C goes on to the next signal at once.
    """
    for number, seconds in _ENDING_SIGNALS:
        try:
            os.killpg(child.pid, number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                if child.poll() is not None:  # what it started will not end without a signal
                    deadline = min(deadline, time.monotonic() + _AFTER_LEADER_SECONDS)
                os.killpg(child.pid, 0)
                time.sleep(0.02)
        except KeyboardInterrupt:
            continue
        except ProcessLookupError:
            return


def _terminal() -> tuple[int, int]:
    """Open a pseudo terminal as wide as the real one, so that progress bars look the same."""
    reader, writer = os.openpty()
    size = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, b"\0" * 8)
    fcntl.ioctl(writer, termios.TIOCSWINSZ, size)
    attributes = termios.tcgetattr(writer)
    attributes[1] &= ~termios.OPOST  # the real terminal already translates line ends
    termios.tcsetattr(writer, termios.TCSANOW, attributes)
    return reader, writer


def _pieces(reader: int) -> Iterator[bytes]:
    # When the other end is closed, a pseudo terminal gives EIO and a pipe gives end of file.
    with contextlib.suppress(OSError):
        while piece := os.read(reader, 1 << 16):
            yield piece
