"""Stand-ins for the files of a row that PyPI and Debian lack, and a checkout locked to them.

They are TensorRT's library wheel and, for row 8.6, the source repositories: the parser's,
protobuf's and TensorRT's headers. Each is as small as the build allows; all else is real.
"""

import base64
import functools
import hashlib
import http.server
import re
import subprocess
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from trtyard.core.patches.patch_set import read_series
from trtyard.lock.file import read_lock, write_lock
from trtyard.lock.patches import patches_now
from trtyard.matrix.reader import read_matrix

SOURCES = Path(__file__).parent / "stand_in_sources"
PARSER = "onnx/onnx-tensorrt"
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
DATE = (2026, 1, 1, 0, 0, 0)  # the same bytes every time, so that a second build is cached


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A checkout whose row is locked to stand-ins, and the folders that serve them."""

    root: Path
    row: str
    filename: str
    sha256: str
    served: Path  # as the vendor's index: PACKAGE/FILE

    @property
    def file(self):
        (found,) = self.served.glob(f"*/{self.filename}")
        return found

    @property
    def pinned(self):
        """Return the vendor's wheel as the checkout's lock has it."""
        wheels = read_lock(self.root / "versions.lock").row(self.row).wheels
        (found,) = [one for one in wheels if one.filename == self.filename]
        return found


def lock_to_stand_ins(root, name, folder):
    """Let the checkout's row take its vendor's files from stand-ins made below ``folder``."""
    toml, file = root / "versions.toml", root / "versions.lock"
    row, lock = read_matrix(toml).row(name), read_lock(file)
    (wheel,) = [one for one in lock.row(name).wheels if one.is_vendors]
    made = make_wheel(wheel, folder / "index" / wheel.name, row.tensorrt.partition(".")[0])
    data = made.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    text = toml.read_text()
    pin = re.compile(
        rf'(public-pins\."{re.escape(wheel.filename)}"\]\n)sha256 = .*\n(size = .*\n)?'
    )
    text, count = pin.subn(rf'\g<1>sha256 = "{sha256}"\nsize = {len(data)}\n', text)
    assert count == 1
    for repository, commit in row.commits.items():
        text = text.replace(commit, commit_of(repository, folder / "git", root))
    toml.write_text(text)
    row = read_matrix(toml).row(name)
    taken = replace(wheel, sha256=sha256, size=len(data), source="public-pin", origin="a stand-in")
    locked = replace(
        lock.row(name),
        matrix_sha256=row.sha256(),
        wheels=tuple(taken if one == wheel else one for one in lock.row(name).wheels),
        patches=patches_now(row, root / "patches"),
    )
    write_lock(file, replace(lock, rows={**lock.rows, name: locked}))
    return StandIn(
        root=root, row=name, filename=wheel.filename, sha256=sha256, served=folder / "index"
    )


def make_wheel(wheel, folder, major):
    """Write a wheel of libraries that hold nothing but have the names that programs ask for."""
    folder.mkdir(parents=True)
    content = {"tensorrt_libs/__init__.py": b""}
    for library in LIBRARIES:
        name = f"lib{library}.so.{major}"
        compile_library(name, folder / name)
        content[f"tensorrt_libs/{name}"] = (folder / name).read_bytes()
        (folder / name).unlink()
    stem = "-".join(wheel.filename.split("-")[:2])
    tags = "".join(f"Tag: {one}\n" for one in tags_of(wheel.filename))
    content |= {
        f"{stem}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {wheel.name}\nVersion: {wheel.version}\n".encode()
        ),
        f"{stem}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\n{tags}".encode()
        ),
    }
    record = "".join(f"{name},sha256={digest(it)},{len(it)}\n" for name, it in content.items())
    content[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    with zipfile.ZipFile(folder / wheel.filename, "w") as archive:
        for name, data in content.items():
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return folder / wheel.filename


def tags_of(filename):
    """Return the tags that a wheel's name stands for: of each part there may be several."""
    pythons, abi, platform = filename.removesuffix(".whl").split("-")[-3:]
    return [f"{python}-{abi}-{platform}" for python in pythons.split(".")]


def digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def compile_library(name, file):
    command = ["cc", "-shared", "-fPIC", "-nostdlib", "-Wl,--build-id=none", f"-Wl,-soname,{name}"]
    source = f"int trtyard_stand_in_{re.sub(r'[^a-z0-9]', '_', name)};\n"
    subprocess.run([*command, "-o", file, "-x", "c", "-"], input=source.encode(), check=True)


def commit_of(repository, folder, root):
    """Make a repository of what stands for this one; return its commit's id."""
    place = folder / f"{repository}.git"
    for file in (SOURCES / repository.rpartition("/")[2]).rglob("*"):
        if file.is_file():
            target = place / file.relative_to(SOURCES / repository.rpartition("/")[2])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    if repository == PARSER:
        (place / "ModelImporter.cpp").write_bytes(open_series(root / "patches/onnx-tensorrt/8.6"))
    git("init", "--quiet", "--initial-branch", "main", cwd=place)
    git("add", "--all", cwd=place)
    when = "2026-01-01T00:00:00Z"
    env = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when, "PATH": "/usr/bin:/bin"}
    git("commit", "--quiet", "-m", "stand-in", cwd=place, env=env)
    return git("rev-parse", "HEAD", cwd=place)


def git(*words, cwd, env=None):
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *words], cwd=cwd, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def open_series(folder):
    """Return a text that the series of patches applies to; its headers get the hashes of it."""
    patches = read_series(folder)
    lines = [b"filler %d\n" % number for number in range(400)]
    for patch in reversed(patches):
        for diff in patch.diffs:
            for hunk in diff.hunks if diff.old_exists else ():
                lines[hunk.new_start : hunk.new_start + len(hunk.new)] = hunk.new
            for hunk in reversed(diff.hunks) if diff.old_exists else ():
                lines[hunk.new_start : hunk.new_start + len(hunk.new)] = hunk.old
    text = b"".join(lines)
    known = hashlib.sha256(text).hexdigest()
    for patch in patches:
        path = "ModelImporter.cpp"
        header, start, diff = patch.file.read_text().partition("\n--- ")
        header = header.replace(patch.applies_to[path], known)
        header = re.sub(r"\nResult: .*(\n .*)*", "", header)
        patch.file.write_text(header + start + diff)
    return text


@contextmanager
def serving(folder):
    """Serve a folder on loopback; give its address."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def write_mirrors(root, address, git_folder):
    """Let the checkout take the vendor's files and the repositories from here."""
    text = f'schema = 1\n[vendor]\n"pypi.nvidia.com" = "{address}"\n'
    if git_folder.is_dir():
        text += f'[git]\n"github.com" = "{git_folder.as_uri()}"\n'
    (root / "mirrors.toml").write_text(text)
