"""Known failures of image builds, provoked with the very programs that such a build runs."""

import http.server
import os
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.request

import pytest

from trtyard.build.buildkit import explained
from trtyard.core.errors import EnvironmentLacksError
from trtyard.known_failures.explanation import explain
from trtyard.system.processes import COLOURS, CommandError
from trtyard.system.uv import ROOT, uv

LOGS = ROOT / "tests" / "host" / "logs"

# BuildKit's frame around what a failed step printed.
FAILED = """\
------
 > [base 2/3] RUN --mount=type=bind,source=templates/steps/settle:
{said}
------
ERROR: failed to solve: process "/bin/bash" did not complete successfully: exit code: {code}
"""


def needs(*programs):
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def said(*command):
    plain = {name: value for name, value in os.environ.items() if name not in COLOURS}
    plain["COLUMNS"] = "300"  # uv breaks its lines there
    done = subprocess.run(command, capture_output=True, text=True, env=plain)
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


def known(words):
    """Return which failure is known of these words, alone and in a build that they ended."""
    error = explained(CommandError(["docker"], 1, FAILED.format(said=words, code=100)))
    name = explain(words)[0].failure.name
    cause = explain(words)[0].failure.cause
    assert isinstance(error, EnvironmentLacksError)
    assert f"step [base 2/3] failed:\n  {words.splitlines()[0][:40]}" in error.message
    assert f"why: {cause}" in error.message
    assert error.hint == explain(words)[0].failure.hint
    return name


def test_missing_apt_version_is_known():
    needs("apt-get", "dpkg")
    words = said("apt-get", "--simulate", "install", "dpkg=0.0.1")
    assert known(words[words.index("E: ") :]) == "apt-version-gone"


def test_stopped_docker_is_known(tmp_path, monkeypatch):
    needs("docker")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    words = said("docker", "version", "--format", "{{.Server.Version}}")
    assert explain(words)[0].failure.name == "docker-not-running"


def test_a_full_disk_is_known():
    words = said(sys.executable, "-c", "open('/dev/full', 'wb', 0).write(b'x')").splitlines()[-1]
    assert explain(words)[0].failure.name == "disk-full"


def test_externally_managed_python_is_known():
    words = said("/usr/bin/python3", "-I", "-m", "pip", "install", "--no-index", "nothing")
    if "No module named pip" in words:
        pytest.skip("the distribution's Python has no pip here")
    assert explain(words)[0].failure.name == "pip-externally-managed"


def test_package_on_no_index_is_known(tmp_path):
    (tmp_path / "asked.in").write_text("nothing-of-this-name\n")
    command = [uv(), "pip", "compile", "--no-config", "--no-index", tmp_path / "asked.in"]
    assert explain(said(*map(str, command)))[0].failure.name == "pip-nothing-fits"


def test_unresolved_server_name_is_known(tmp_path, monkeypatch):
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "asked.in").write_text("nothing\n")
    index = "https://nobody.invalid/simple"  # RFC 2606 keeps this name for nobody
    command = [uv(), "pip", "compile", "--no-config", "--no-cache", "--default-index", index]
    words = said(*map(str, command), str(tmp_path / "asked.in"))
    assert explain(words)[0].failure.name == "network-unreachable"


@pytest.fixture
def unknown_authority(tmp_path):
    """Return the address of a server on loopback whose certificate nobody knows."""
    needs("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_unknown_certificate_authority_is_known(unknown_authority, tmp_path, monkeypatch):
    for variable in ("SSL_CERT_FILE", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INSECURE_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "localhost")
    index = f"{unknown_authority}/simple"
    (tmp_path / "asked.in").write_text("nothing\n")
    command = [uv(), "pip", "compile", "--no-config", "--no-cache", "--default-index", index]
    assert known(said(*command, str(tmp_path / "asked.in"))) == "certificate-unknown"
    with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED") as failure:
        urllib.request.urlopen(unknown_authority)  # noqa: S310 - an address of our own
    assert known(str(failure.value)) == "certificate-unknown"
    if shutil.which("git"):
        words = said("git", "ls-remote", f"{unknown_authority}/x.git")
        assert known(words) == "certificate-unknown"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("apt-key-rotated", "cuda-keyring"),
        ("base-image-gone", "mirrors.toml"),
        ("compiler-killed", "make -j1"),
        ("gpu-architecture-unknown", "nvcc --list-gpu-arch"),
    ],
)
def test_image_failures_get_a_hint(log, words):
    text = "".join((LOGS / f"{log}.log").read_text().splitlines(keepends=True)[1:])
    error = explained(CommandError(["docker"], 1, FAILED.format(said=text, code=1)))
    assert words in error.hint
    assert error.exit_code == EnvironmentLacksError.exit_code


def test_apt_key_error_is_not_a_network_error():
    # apt says "Failed to fetch" of a source whose signature it cannot check, too.
    text = (LOGS / "apt-key-rotated.log").read_text()
    text += "W: Failed to fetch https://developer.download.nvidia.com/compute InRelease\n"
    error = explained(CommandError(["docker"], 1, FAILED.format(said=text, code=100)))
    assert "the network" not in error.message
    assert "cuda-keyring" in error.hint
