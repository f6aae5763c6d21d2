import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trtyard.core.errors import EnvironmentLacksError
from trtyard.system import processes as command
from trtyard.system.interruptions import held_back
from trtyard.system.processes import (
    CommandError,
    check,
    in_background,
    output_of,
    quoted,
    run,
    run_plainly,
)
from trtyard.system.uv import ROOT


def test_output_is_returned_and_errors_only_on_request():
    words = ["sh", "-c", "echo out; echo err >&2"]
    assert output_of(words) == "out\n"
    assert output_of(words, errors=True) == "out\nerr\n"


def test_a_failure_is_raised_with_the_last_lines(capfd):
    with pytest.raises(CommandError) as caught:
        check(["sh", "-c", "seq 1 100; echo the reason >&2; exit 7"])
    assert caught.value.code == 7
    assert "sh failed with exit code 7" in caught.value.message
    assert "the reason" in caught.value.message
    assert "  87\n" in caught.value.message  # 15 lines are shown
    assert "  86\n" not in caught.value.message
    assert capfd.readouterr().err.startswith("1\n2\n")  # and all of them came by


def test_colours_are_shown_but_not_captured(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert output_of(["sh", "-c", 'echo "${FORCE_COLOR-none}"']) == "none\n"
    red = r"printf '\033[1m\033[31merror\033[39m\033[0m: no network\n'; exit 1"
    with pytest.raises(CommandError) as caught:
        check(["sh", "-c", red])
    assert caught.value.tail == "error: no network\n"
    assert caught.value.message.endswith("  error: no network")
    assert "\033[31merror" in capfd.readouterr().err


def test_run_returns_exit_code_and_separates_streams(capfd):
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"]) == 3
    assert capfd.readouterr() == ("out\n", "err\n")


def test_run_plainly_separates_streams_and_strips_codes(capfd):
    script = r"printf '\033[31mout\033[0m\n'; printf '\033]0;t\007err\n' >&2; exit 3"
    assert run_plainly(["sh", "-c", script]) == 3
    assert capfd.readouterr() == ("out\n", "err\n")
    assert run_plainly(["sh", "-c", "seq 1 50000"]) == 0
    assert capfd.readouterr().out.splitlines() == [str(number) for number in range(1, 50001)]


def test_run_plainly_does_not_wait_for_background_children(capfd):
    start = time.monotonic()
    assert run_plainly(["sh", "-c", "sleep 60 & echo $!; exit 4"]) == 4
    assert time.monotonic() - start < 30
    os.kill(int(capfd.readouterr().out), signal.SIGKILL)


def test_run_plainly_shows_output_after_an_interrupt(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from trtyard.system.processes import run_plainly\n"
        "run_plainly(['sh', '-c', 'trap \"echo bye; exit 1\" INT; echo up; sleep 60 & wait'])\n"
    )
    words = [sys.executable, "-I", "-c", script, str(ROOT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout.readline() == b"up\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b"bye\n"


def test_child_inherits_only_the_given_descriptors(tmp_path):
    with (tmp_path / "file").open("w") as stream:
        seen = ["test", "-e", f"/proc/self/fd/{stream.fileno()}"]
        assert run(seen, pass_fds=(stream.fileno(),)) == 0
        assert run(seen) == 1


def test_a_missing_program_is_named():
    with pytest.raises(EnvironmentLacksError, match="no-such-program is not installed"):
        run(["no-such-program"])


def test_command_is_echoed_shell_quoted(capfd, monkeypatch):
    monkeypatch.setattr(command, "_echo", False)
    command.set_echo(True)
    output_of(["printf", "%s", "two words"])
    command.set_echo(False)
    assert "printf %s 'two words'\n" in capfd.readouterr().err
    assert quoted(["a b", "c"]) == "'a b' c"


def test_command_gets_a_terminal_if_the_user_has_one():
    """Under a pseudo terminal the child sees one too, as wide as the real one."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from trtyard.system.processes import check\n"
        "check(['sh', '-c', 'test -t 2 && stty size <&2'])\n"
    )
    leader, follower = os.openpty()
    subprocess.run(["stty", "rows", "33", "cols", "77"], stdin=follower, check=True)
    with subprocess.Popen(
        [sys.executable, "-I", "-c", script, str(ROOT)], stderr=follower
    ) as child:
        os.close(follower)
        assert child.wait(60) == 0
    said = b""
    while not said.endswith(b"\n"):  # a terminal may give a line in pieces
        said += os.read(leader, 1000)
    assert said == b"33 77\r\n"
    os.close(leader)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_childs_process_group(tmp_path, number):
    script = (
        "import signal, sys; sys.path.insert(0, sys.argv[1])\n"
        "from trtyard.cli.command import _end\n"
        "from trtyard.system.processes import run\n"
        "signal.signal(signal.SIGTERM, _end)\n"
        "run(['sh', '-c', 'sleep 300 & echo $! > child; wait'])\n"
    )
    words = [sys.executable, "-I", "-c", script, str(ROOT)]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 20
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        grandchild = int((tmp_path / "child").read_text())
        parent.send_signal(number)
        assert parent.wait(20) != 0
    while is_running(grandchild):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_interrupt_during_start_ends_the_child(tmp_path):
    """It comes when the child runs, and before anybody has been told which process it is."""
    script = """
import os, signal, subprocess, sys
sys.path.insert(0, sys.argv[1])
from trtyard.system import processes as command

class Interrupted(subprocess.Popen):
    def __init__(self, *words, **options):
        super().__init__(*words, **options)
        open("child", "w").write(str(self.pid))
        os.kill(os.getpid(), signal.SIGINT)

subprocess.Popen = Interrupted
command.run(["sleep", "300"])
"""
    words = [sys.executable, "-I", "-c", script, str(ROOT)]
    with (tmp_path / "said").open("w") as said:  # a pipe would wait for the child's end
        assert subprocess.run(words, cwd=tmp_path, stderr=said).returncode != 0
    assert "KeyboardInterrupt" in (tmp_path / "said").read_text()
    assert not is_running(int((tmp_path / "child").read_text()))


def test_second_interrupt_ends_the_wait(tmp_path):
    """The child notes the first, and would outlive it."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from trtyard.system.processes import run\n"
        "run(['sh', '-c', 'trap \"touch noted\" INT TERM; echo $$ > child;"
        " while :; do sleep 0.02; done'])\n"
    )
    words = [sys.executable, "-I", "-c", script, str(ROOT)]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 60
        while not (tmp_path / "child").exists() or not (tmp_path / "child").read_text().strip():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child = int((tmp_path / "child").read_text())
        parent.send_signal(signal.SIGINT)
        while not (tmp_path / "noted").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(60) != 0
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_held_back_signals_arrive_at_the_end():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)]
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen = []

    def interrupted():
        with held_back():
            signal.raise_signal(signal.SIGINT)
            seen.append(signal.getsignal(signal.SIGHUP))

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert seen == [signal.SIG_IGN]
        assert signal.getsignal(signal.SIGINT) is before[0]
    finally:
        signal.signal(signal.SIGHUP, before[1])


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def interrupted_in_the_background(command, file):
    """Run the command until it has printed something, then raise; return its process."""
    children = []
    with (
        contextlib.suppress(ZeroDivisionError),
        file.open("wb") as output,
        in_background(command, output=output.fileno()) as child,
    ):
        children.append(child)
        while not file.read_bytes():
            time.sleep(0.02)
        raise ZeroDivisionError
    return children[0]


def test_command_in_the_background_ends_with_the_block(tmp_path):
    sleeping = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(60)"]
    child = interrupted_in_the_background(sleeping, tmp_path / "output")
    assert child.wait() != 0


def test_command_in_the_background_writes_into_the_file(tmp_path):
    file = tmp_path / "output"
    with (
        file.open("wb") as output,
        in_background([sys.executable, "-c", "print(3)"], output=output.fileno()) as child,
    ):
        assert child.wait() == 0
    assert file.read_bytes() == b"3\n"
