"""The real ``run``, in a copy of this checkout whose lock names two tiny wheels.

Two wheels stand for the host tools, so that nothing is fetched: the shell script, venv, pip's or
uv's installing, hashes, locks and repairs are the real ones.
"""

import os
import shutil
import signal
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tiny_wheels import make_wheel

from trtyard.lock.file import requirements_text
from trtyard.system.uv import ROOT, uv

INVOKED = b"""\
import json, os, sys
sys.stdout.write(f"{os.getcwd()}|{'|'.join(sys.argv[1:])}|{sys.version_info[:2] >= (3, 10)}\\n")
"""


@pytest.fixture
def house(tmp_path):
    """Return a checkout in a folder with spaces, and what it can be installed from beside it."""
    root = tmp_path / "a folder with spaces" / "trtyard"
    store = tmp_path / "store"
    store.mkdir()
    for name in ("run", "trtyard", "requirements"):
        if (ROOT / name).is_dir():
            hidden = shutil.ignore_patterns("__pycache__", "pipeline", "known_failures")
            shutil.copytree(ROOT / name, root / name, ignore=hidden)
        else:
            root.mkdir(parents=True)
            shutil.copy2(ROOT / name, root / name)
    (root / "trtyard" / "__main__.py").write_bytes(INVOKED)
    wheels = (make_wheel(store, "tiny"), make_wheel(store, "tool"))
    lock_to(root, *wheels)
    return root


def lock_to(root, *wheels):
    (root / "requirements" / "host.txt").write_text(requirements_text(wheels))


def environment(root, **changes):
    store = root.parents[1] / "store"
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))
    }
    env |= {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(store), "PIP_NO_INDEX": "1"}
    # pip takes several places from its variable, with spaces between them.
    env |= {"UV_CACHE_DIR": str(store / "cache"), "PIP_FIND_LINKS": store.as_uri()}
    env["PATH"] = f"{uv().parent}{os.pathsep}{os.environ['PATH']}"
    return env | changes


def start(root, *words, cwd=None, **changes):
    return subprocess.Popen(
        ["sh", str(root / "run"), *words],
        cwd=cwd or root.parent,
        env=environment(root, **changes),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def call(root, *words, **changes):
    with start(root, *words, **changes) as child:
        out, err = child.communicate(timeout=120)
    return child.returncode, out, err


def has_tools(root):
    script = "import tiny, tool; print(tiny.NAME)"
    command = [root / ".venv" / "bin" / "python", "-I", "-c", script]
    return subprocess.run(command, capture_output=True, text=True).stdout == "tiny\n"


def stamp(root):
    return root / ".venv" / "stamp"


def test_first_call_makes_venv_and_forwards_arguments(house, tmp_path):
    elsewhere = tmp_path / "some where"
    elsewhere.mkdir()
    code, out, err = call(house, "convert", "--image", "two words.png", cwd=elsewhere)
    assert (code, out) == (0, f"{elsewhere}|convert|--image|two words.png|True\n"), err
    assert "making .venv" in err
    assert has_tools(house)
    assert stamp(house).read_bytes() == (house / "requirements" / "host.txt").read_bytes()


def test_second_call_is_silent(house):
    call(house)
    before = stamp(house).stat().st_mtime_ns
    code, out, err = call(house)
    assert (code, err) == (0, "")
    assert out
    assert stamp(house).stat().st_mtime_ns == before


def test_users_files_do_not_shadow_the_tools(house, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit('imported from the user')")
    code, _, err = call(house, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert code == 0, err


def test_it_can_be_called_through_a_link(house, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "yard").symlink_to(house / "run")
    done = subprocess.run(
        ["sh", "yard", "x"], cwd=tmp_path / "bin", env=environment(house), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert (house / ".venv").is_dir()


def test_two_at_once_from_nothing_make_it_once(house):
    children = [start(house, str(number)) for number in range(2)]
    said = [child.communicate(timeout=120) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert sum(err.count("making .venv with") for _, err in said) == 1
    assert has_tools(house)


def test_a_first_call_killed_twice_is_repaired_by_the_next(house):
    for _ in range(2):
        child = start(house)
        deadline = time.monotonic() + 60
        while not (house / ".venv" / "bin").exists():
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.005)
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        assert not stamp(house).exists()
    code, _, err = call(house)
    assert code == 0, err
    assert has_tools(house)


def test_waits_for_children_of_a_killed_call(house, tmp_path):
    """Its uv goes on in a session of its own, and would write among what the next call makes."""
    programs, begun, go_on = tmp_path / "slow", tmp_path / "begun", tmp_path / "go-on"
    programs.mkdir()
    waits = f'touch "{begun}"; until [ -e "{go_on}" ]; do sleep 0.02; done'
    (programs / "uv").write_text(
        f'#!/bin/sh\ncase "$*" in *--quiet*) {waits};; esac\nexec "{uv()}" "$@"\n'
    )
    (programs / "uv").chmod(0o755)
    child = start(house, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
    with start(house) as second:
        said = second.stderr.readline()
        go_on.touch()
        _, err = second.communicate(timeout=120)
    assert "waiting for another run that makes .venv" in said
    assert second.returncode == 0, err
    assert has_tools(house)


def test_broken_or_outdated_venv_is_rebuilt(house, tmp_path):
    call(house)
    (house / ".venv" / "bin" / "python").unlink()
    (house / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert call(house)[0] == 0
    assert has_tools(house)
    old = house / ".venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    newer = make_wheel(tmp_path / "store", "tiny", "2.0")
    lock_to(house, newer, make_wheel(tmp_path / "store", "tool"))
    assert call(house)[0] == 0
    assert has_tools(house)
    assert not list(old.glob("tiny-1.0*"))


STARTS = b"""\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from trtyard.cli.damaged import restart

try:
    import tool
except Exception as error:
    restart(error)
print(tool.NAME, *sys.argv[1:])
"""


def replace_file(file, content):
    """Put another file there: the one that is there may be uv's own, in its cache."""
    file.unlink()
    file.write_bytes(content)
    file.chmod(0o755)


@pytest.mark.parametrize("damage", ["no file", "zeros", "cut short", "no python", "no pyvenv.cfg"])
def test_damaged_venv_is_rebuilt_by_the_same_command(damage, house):
    (house / "trtyard" / "__main__.py").write_bytes(STARTS)
    assert call(house, "a b")[:2] == (0, "tiny a b\n")
    venv = house / ".venv"
    tool = next(venv.glob("lib/*/site-packages/tool.py"))
    if damage == "no file":
        tool.unlink()
    elif damage == "zeros":
        replace_file(tool, bytes(20))
    elif damage == "cut short":
        replace_file(tool, b"NAME = 'ti")
    elif damage == "no python":
        replace_file(venv / "bin" / "python", b"not a program\n")
    else:
        (venv / "pyvenv.cfg").unlink()
    code, out, err = call(house, "a b")
    assert (code, out) == (0, "tiny a b\n"), err
    assert "making .venv" in err
    assert call(house, "a b") == (0, "tiny a b\n", "")


def test_bug_in_trtyard_does_not_rebuild_venv(house):
    (house / "trtyard" / "__main__.py").write_bytes(STARTS.replace(b"tool\n", b"trtyard.x\n", 1))
    code, _, err = call(house)
    assert code == 70
    assert "No module named 'trtyard.x'" in err
    assert "is damaged" not in err


def test_a_damage_that_a_new_venv_does_not_cure_ends(house):
    (house / "trtyard" / "__main__.py").write_bytes(STARTS.replace(b"tool\n", b"nothing\n", 1))
    code, _, err = call(house)
    assert code == 70
    assert err.count("is damaged") == 1
    assert err.count("making .venv") == 2


def test_foreign_venv_is_not_changed(house):
    (house / ".venv").mkdir()
    (house / ".venv" / "pyvenv.cfg").write_text("home = /usr/bin\n")
    code, out, err = call(house)
    assert (code, out) == (3, "")
    assert "was not made by trtyard" in err
    assert [entry.name for entry in (house / ".venv").iterdir()] == ["pyvenv.cfg"]


def test_wheel_with_wrong_hash_is_refused(house, tmp_path):
    make_wheel(tmp_path / "store", "tiny", files={"tiny.py": b"NAME = 'evil'\n"})
    code, out, err = call(house)
    assert (code, out) == (5, "")
    assert "Traceback" not in err
    assert not stamp(house).exists()


def test_no_network_is_reported_and_leaves_no_venv(house):
    code, out, err = call(house, UV_FIND_LINKS="", UV_OFFLINE="1")
    assert (code, out) == (3, "")
    assert "packages cannot be" in err
    assert "Traceback" not in err
    assert [entry.name for entry in (house / ".venv").iterdir()] == ["CACHEDIR.TAG"]
    assert call(house)[0] == 0


def without_uv(tmp_path):
    """Return a PATH with the usual programs and no uv."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("sh", "cmp", "dirname", "readlink", "python3"):
        real = os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)
        (folder / name).symlink_to(real)
    return str(folder)


def test_unreadable_file_is_reported_without_traceback(house):
    (house / "requirements" / "host.txt").unlink()
    (house / "requirements" / "host.txt").mkdir()
    code, _, said = call(house)
    assert code == 3
    assert f"cannot make .venv: Is a directory ({house}/requirements/host.txt)" in said
    assert "Traceback" not in said


def test_without_uv_pip_fetches_the_locked_one(house, tmp_path):
    """The wheel named uv holds a script that calls the real one."""
    store = tmp_path / "store"
    script = f'#!/bin/sh\necho used-the-fetched-uv >&2\nexec "{uv()}" "$@"\n'.encode()
    fetched = make_wheel(store, "uv", "9.9", files={"uv-9.9.data/scripts/uv": script})
    lock_to(house, fetched, make_wheel(store, "tiny"), make_wheel(store, "tool"))
    text = (house / "requirements" / "host.txt").read_text().replace(" --hash", " \\\n    --hash")
    (house / "requirements" / "host.txt").write_text(text)
    code, _, err = call(house, PATH=without_uv(tmp_path), PIP_USER="1", PIP_PREFIX="/nowhere")
    assert code == 0, err
    assert "used-the-fetched-uv" in err
    assert has_tools(house)


@pytest.fixture
def stranger(tmp_path):
    """Return the address of a server with a certificate that nobody here knows."""
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-config", os.devnull, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeting) as server:
        server.context = context
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://localhost:{server.server_address[1]}/simple"
        server.shutdown()


class Greeting(socketserver.BaseRequestHandler):
    def handle(self):
        with suppress(OSError):  # the other side hangs up as soon as it sees the certificate
            self.server.context.wrap_socket(self.request, server_side=True).close()


@pytest.mark.parametrize("client", ["uv", "pip"])
def test_untrusted_certificate_is_its_own_error(house, tmp_path, stranger, client):
    changes = {"UV_NO_INDEX": "false", "UV_FIND_LINKS": "", "UV_DEFAULT_INDEX": stranger}
    changes |= {"UV_HTTP_RETRIES": "0", "NO_PROXY": "localhost"}
    if client == "pip":
        lock_to(house, make_wheel(tmp_path / "store", "uv", "9.9"))
        text = (house / "requirements" / "host.txt").read_text()
        text = text.replace(" --hash", " \\\n    --hash")
        (house / "requirements" / "host.txt").write_text(text)
        changes |= {"PIP_NO_INDEX": "false", "PIP_FIND_LINKS": "", "PIP_INDEX_URL": stranger}
        changes |= {"PIP_RETRIES": "1", "PATH": without_uv(tmp_path)}
    code, out, err = call(house, **changes)
    assert (code, out) == (3, ""), err
    assert "the certificate of the package index is not trusted" in err
    assert "SSL_CERT_FILE" in err
    assert not stamp(house).exists()


def test_no_python_error_says_what_to_install(house, tmp_path):
    path = without_uv(tmp_path)
    Path(path, "python3").unlink()
    Path(path, "python3").write_text(
        "#!/bin/sh\necho 'pyenv: version not installed' >&2\nexit 127\n"
    )
    Path(path, "python3").chmod(0o755)
    script = (house / "run").read_text()
    for usual in ("/usr/bin/python3", "/usr/local/bin/python3"):
        assert usual in script
        script = script.replace(usual, "/nowhere/python3")  # this machine has one there
    (house / "run").write_text(script)
    code, out, err = call(house, PATH=path)
    assert (code, out) == (3, "")
    assert "no Python 3.10 or newer" in err
    assert "apt-get install python3" in err
    assert not (house / ".venv").exists()


def test_it_is_plain_sh(house):
    dash = shutil.which("dash")
    if dash is None:
        pytest.skip("no dash on this machine")
    assert subprocess.run([dash, "-n", house / "run"]).returncode == 0
    shellcheck = shutil.which("shellcheck")
    if shellcheck is not None:
        done = subprocess.run([shellcheck, house / "run"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
