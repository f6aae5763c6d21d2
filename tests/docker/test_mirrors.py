"""The steps that fetch, behind a company's mirrors: its certificate, its password, its addresses.

A real build of the step scripts on the row's base, against a server on loopback that speaks TLS and
asks for a password. What the build was told must be nowhere in the image.
"""

import base64
import functools
import hashlib
import http.server
import io
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
import uuid
import zipfile

import pytest

from trtyard.build import bake
from trtyard.build.local_base import have_bases, local_bases
from trtyard.fetching.mirrors import read_mirrors
from trtyard.lock.file import read_lock
from trtyard.system.docker_engine import docker_command
from trtyard.system.uv import LOCK_FILE, ROOT, uv

PASSWORD = "hunter2-" + uuid.uuid4().hex
SETTLE_TIME = "1767225600"
DOCKERFILE = """\
FROM {base}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG SOURCE_DATE_EPOCH
RUN printf 'Types: deb\\nURIs: http://debs.example.org/all\\nSuites: ./\\nTrusted: yes\\n' \\
    >/etc/apt/sources.list.d/demo.sources; \
    echo 'deb http://debs.example.org/unsigned ./' >/etc/apt/sources.list.d/a-key-of-old.list
RUN --mount=type=bind,source=steps,target=/tmp/steps \\
    --mount=type=bind,source=debs.txt,target=/tmp/row/debs.txt \\
    --mount=type=secret,id=apt,target=/run/secrets/apt \\
    --mount=type=secret,id=netrc,target=/run/secrets/netrc \\
    --mount=type=secret,id=ca,target=/run/secrets/ca,mode=0444 <<STEP
/tmp/steps/install-debs /tmp/row/debs.txt
/tmp/steps/settle
STEP
"""
PACKAGES_DOCKERFILE = """\
FROM {base}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
ARG SOURCE_DATE_EPOCH
RUN --mount=type=bind,source=steps,target=/tmp/steps \\
    --mount=type=bind,source=uv,target=/opt/tools/bin/uv \\
    --mount=type=bind,source=packages.txt,target=/tmp/row/packages.txt \\
    --mount=type=secret,id=index,target=/run/secrets/index \\
    --mount=type=secret,id=netrc,target=/run/secrets/netrc \\
    --mount=type=secret,id=ca,target=/etc/ssl/certs/ca-certificates.crt <<STEP
/tmp/steps/install-packages /tmp/row/packages.txt /opt/env
rm -rf /tmp/uv-cache
/tmp/steps/settle
STEP
"""


def deb_archive(folder):
    """Make an apt archive of one package; return the lines of a list with it."""
    root = folder / "tiny"
    (root / "DEBIAN").mkdir(parents=True)
    control = "Package: trtyard-tiny\nVersion: 1.0\nArchitecture: all\n"
    control += "Maintainer: tests <tests@example.org>\nDescription: tiny\n"
    (root / "DEBIAN" / "control").write_text(control)
    archive = folder / "served" / "mirror" / "all"
    archive.mkdir(parents=True)
    file = archive / "trtyard-tiny_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, file], check=True, capture_output=True)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = f"{control}Filename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {sha256}\n"
    (archive / "Packages").write_text(entry)
    # The second is as of a vendor's base: there already, in no source, and not to be asked for.
    return f"trtyard-tiny 1.0 all {sha256}\ntrtyard-of-the-base 1.0 all -\n"


def package_index(folder):
    """Make a package index of one wheel; return the lines of a list with it."""
    project = folder / "served" / "mirror" / "simple" / "tiny-demo"
    project.mkdir(parents=True)
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as wheel:
        wheel.writestr("tiny_demo.py", "NAME = 'tiny'\n")
        info = "tiny_demo-1.0.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-demo\nVersion: 1.0\n")
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        names = ("tiny_demo.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD")
        wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\n" for name in names))
    file = project / "tiny_demo-1.0-py3-none-any.whl"
    file.write_bytes(data.getvalue())
    sha256 = hashlib.sha256(data.getvalue()).hexdigest()
    page = f'<!DOCTYPE html><a href="{file.name}#sha256={sha256}">{file.name}</a>'
    (project / "index.html").write_text(page)
    return f"tiny-demo==1.0 --hash=sha256:{sha256}\n"


@pytest.fixture
def mirror(tmp_path):
    """Serve ``tmp_path/served`` with TLS to who knows the password; return port and requests."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    # A server's own, not an authority's: uv takes no other.
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-config", os.devnull]
    command += ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.pem"]
    subprocess.run(command, check=True, capture_output=True)
    expected = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization") == expected))
            if not asked[-1][1]:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="mirror"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            super().do_GET()

        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "ca.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()


@pytest.fixture
def base(engine, row, request):
    """Return an image of the row's distribution: its base, or the row's image itself."""
    locked = read_lock(LOCK_FILE).row(row.name)
    if have_bases(engine, row, locked):
        return local_bases(row, locked)[0].image
    return request.getfixturevalue("image")


@pytest.fixture
def context(tmp_path, base):
    """Return a build context of the step scripts, a list of one package, and a netrc."""
    folder = tmp_path / "context"
    shutil.copytree(ROOT / "templates" / "steps", folder / "steps")
    # Only the package of the test: what else the base has is not its matter.
    (folder / "debs.txt").write_text(deb_archive(tmp_path))
    (folder / "packages.txt").write_text(package_index(tmp_path))
    shutil.copy2(uv(), folder / "uv")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=base))
    (folder / "Dockerfile.packages").write_text(PACKAGES_DOCKERFILE.format(base=base))
    netrc = f"machine localhost login me password {PASSWORD}\n"
    (tmp_path / "netrc").write_text(f"{netrc}machine other.example.org login me password other\n")
    return folder


def secrets_of(tmp_path, monkeypatch, port):
    """Return the words that hand a mirror's settings to a build, and the variables behind them."""
    (tmp_path / "mirrors.toml").write_text(
        f'schema = 1\nca-bundle = "ca.pem"\n[apt]\n'
        f'"debs.example.org" = "https://localhost:{port}/mirror"\n'
        f'[python]\nindex = "https://localhost:{port}/mirror/simple"\n'
    )
    monkeypatch.setenv("TRTYARD_MIRRORS", str(tmp_path / "mirrors.toml"))
    environment = {**os.environ, "NETRC": str(tmp_path / "netrc")}
    for name in ("SSL_CERT_FILE", "UV_DEFAULT_INDEX"):  # the machine's own would come first
        environment.pop(name, None)
    read_mirrors().set_variables(environment)
    assert "other" not in environment["TRTYARD_NETRC"]
    words = ["--secret", f"id=ca,src={environment['SSL_CERT_FILE']}"]
    environment.pop("UV_INDEX", None)
    for name, variable in bake.PLACES.items():
        words += ["--secret", f"type=env,id={name},env={variable}"]
    return words, environment


def build(context, words, environment, output):
    command = [docker_command(), "buildx", "build", "--builder", "default", "--network", "host"]
    command += ["--build-arg", f"SOURCE_DATE_EPOCH={SETTLE_TIME}", "--provenance", "false"]
    # Each time: a step that is in the cache asks nobody.
    command += ["--no-cache", "--progress", "plain", "--output", output]
    return subprocess.run(
        [*command, *words, context], env=environment, capture_output=True, text=True
    )


def test_debs_use_the_mirror_and_image_keeps_no_trace(mirror, context, tmp_path, monkeypatch):
    port, asked = mirror
    words, environment = secrets_of(tmp_path, monkeypatch, port)
    done = build(context, words, environment, f"type=tar,dest={tmp_path / 'image.tar'}")
    assert done.returncode == 0, done.stderr
    assert ("/mirror/all/./trtyard-tiny_1.0_all.deb", True) in asked
    assert PASSWORD not in done.stderr + done.stdout
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert b"Package: trtyard-tiny" in tar.extractfile("var/lib/dpkg/status").read()
        sources = tar.extractfile("etc/apt/sources.list.d/demo.sources").read()
        assert b"http://debs.example.org/all" in sources
    assert_nothing_stays(port, tmp_path)


def test_packages_use_the_mirror_and_image_keeps_no_trace(mirror, context, tmp_path, monkeypatch):
    port, asked = mirror
    words, environment = secrets_of(tmp_path, monkeypatch, port)
    words += ["--file", str(context / "Dockerfile.packages")]
    done = build(context, words, environment, f"type=tar,dest={tmp_path / 'image.tar'}")
    assert done.returncode == 0, done.stderr
    assert ("/mirror/simple/tiny-demo/tiny_demo-1.0-py3-none-any.whl", True) in asked
    assert PASSWORD not in done.stderr + done.stdout
    with tarfile.open(tmp_path / "image.tar") as tar:
        assert any(name.endswith("/site-packages/tiny_demo.py") for name in tar.getnames())
    assert_nothing_stays(port, tmp_path)


def assert_nothing_stays(port, tmp_path):
    certificate = (tmp_path / "ca.pem").read_text().splitlines()[1]
    told = [PASSWORD.encode(), f"localhost:{port}".encode(), certificate.encode()]
    with tarfile.open(tmp_path / "image.tar") as tar:
        for member in tar:
            assert "run/secrets" not in member.name
            if member.isfile():
                content = tar.extractfile(member).read()
                assert not any(one in content for one in told), member.name


@pytest.mark.parametrize(
    ("left_out", "said"), [("netrc", "401"), ("apt", "debs.example.org"), ("ca", "certificate")]
)
def test_step_fails_without_a_mirror_setting(
    mirror, context, tmp_path, monkeypatch, left_out, said
):
    port, _ = mirror
    words, environment = secrets_of(tmp_path, monkeypatch, port)
    kept = [word for word in words[1::2] if f"id={left_out}," not in word]
    words = [word for secret in kept for word in ("--secret", secret)]
    done = build(context, words, environment, "type=cacheonly")
    assert done.returncode != 0
    assert f" {said}" in done.stderr or f"'{said}'" in done.stderr
