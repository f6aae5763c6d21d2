"""The steps that fetch Debian packages, where no apt source has the locked version any more."""

import functools
import hashlib
import http.server
import shutil
import subprocess
import threading

import pytest

from trtyard.build.local_base import have_bases, local_bases
from trtyard.lock.file import read_lock
from trtyard.system.docker_engine import docker_command
from trtyard.system.uv import LOCK_FILE, ROOT

TIME, LATER = "20260131T101112Z", "20260201T101112Z"
SUITES = (
    "debian/{}/dists/bookworm",
    "debian/{}/dists/bookworm-updates",
    "debian-security/{}/dists/bookworm-security",
)
DOCKERFILE = """\
FROM {base}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
RUN printf '%s\\n' '{sources}' >/etc/apt/sources.list
RUN --mount=type=bind,source=steps,target=/tmp/steps \\
    --mount=type=bind,source=debs.txt,target=/tmp/row/debs.txt \\
    --mount=type=secret,id=snapshots,target=/run/secrets/snapshots <<STEP
/tmp/steps/{step} --snapshot {time} /tmp/row/{words}
STEP
RUN cat /usr/lib/trtyard-gone
"""
# Behind the name: the list, and a component to ask for where the step takes one.
STEPS = {"install-debs": "debs.txt", "unpack-debs": "debs.txt non-free"}


@pytest.fixture
def base(engine, row, request):
    """Return an image of the row's distribution: its base, or the row's image itself."""
    locked = read_lock(LOCK_FILE).row(row.name)
    if have_bases(engine, row, locked):
        return local_bases(row, locked)[0].image
    return request.getfixturevalue("image")


@pytest.fixture
def service(tmp_path):
    """Serve snapshots of which only that of a day later has the package; return the address."""
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "usr" / "lib" / "trtyard-gone").write_text("it was gone\n")
    control = "Package: trtyard-gone\nVersion: 1.0\nArchitecture: all\n"
    control += "Maintainer: tests <tests@example.org>\nDescription: tiny\n"
    (root / "DEBIAN" / "control").write_text(control)
    served = tmp_path / "served" / "archive"
    pool = served / "debian" / LATER / "pool"
    pool.mkdir(parents=True)
    file = pool / "trtyard-gone_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", root, file], check=True, capture_output=True)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    entry = f"{control}Filename: pool/{file.name}\nSize: {file.stat().st_size}\nSHA256: {sha256}\n"
    for suite in SUITES:
        for time in (TIME, LATER):
            for component in ("main", "non-free"):
                place = served / suite.format(time) / component / "binary-amd64"
                place.mkdir(parents=True)
                is_its = suite == SUITES[0] and time == LATER and component == "main"
                (place / "Packages").write_text(entry if is_its else "")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", sha256
    server.shutdown()
    server.server_close()


def build(tmp_path, base, step, time, address, sha256, place="secret"):
    """Run a step in a build that finds the snapshot service in this place."""
    context = tmp_path / "context"
    shutil.copytree(ROOT / "templates" / "steps", context / "steps")
    (context / "debs.txt").write_text(f"trtyard-gone 1.0 all {sha256}\n")
    # The comment of Debian's own images.
    sources = f"# {address}/archive/debian/20250520T000000Z" if place == "comment" else ""
    (context / "Dockerfile").write_text(
        DOCKERFILE.format(base=base, step=step, time=time, words=STEPS[step], sources=sources)
    )
    (tmp_path / "snapshots").write_text(address if place == "secret" else "")
    command = [docker_command(), "buildx", "build", "--builder", "default", "--network", "host"]
    command += ["--no-cache", "--progress", "plain", "--output", "type=cacheonly"]
    command += ["--secret", f"id=snapshots,src={tmp_path / 'snapshots'}", context]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("place", ["secret", "comment"])
@pytest.mark.parametrize("name", STEPS)
def test_dropped_package_comes_from_the_snapshot(base, service, tmp_path, name, place):
    done = build(tmp_path, base, name, TIME, *service, place)
    assert done.returncode == 0, done.stderr
    assert f"using the packages of the snapshot of {LATER} at {service[0]}" in done.stderr
    assert "it was gone" in done.stderr


@pytest.mark.parametrize("name", STEPS)
def test_package_in_no_snapshot_exits_with_3(base, service, tmp_path, name):
    done = build(tmp_path, base, name, "20250101T000000Z", *service)
    assert done.returncode != 0
    assert "exit code: 3" in done.stderr
    assert "./run lock --upgrade" in done.stderr


@pytest.mark.parametrize("name", STEPS)
def test_unknown_snapshot_service_exits_with_3(base, service, tmp_path, name):
    done = build(tmp_path, base, name, TIME, *service, "nowhere")
    assert done.returncode != 0
    assert "exit code: 3" in done.stderr
    assert "set snapshots in mirrors.toml" in done.stderr


@pytest.mark.parametrize("name", STEPS)
def test_wrong_file_in_snapshot_exits_with_5(base, service, tmp_path, name):
    done = build(tmp_path, base, name, TIME, service[0], "0" * 64)
    assert done.returncode != 0
    assert "exit code: 5" in done.stderr
