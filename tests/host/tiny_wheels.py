"""Small real wheels, so that the real uv can install without a network."""

import base64
import hashlib
import io
import tarfile
import zipfile

from trtyard.lock.file import Artifact


def make_wheel(
    folder,
    name,
    version="1.0",
    files=None,
    metadata_version=None,
    requires=(),
    tag="py3-none-any",
):
    """Write a pure wheel and return it as the lock would name it."""
    stem = f"{name.replace('-', '_')}-{version}"
    content = dict(files or {f"{name.replace('-', '_')}.py": b"NAME = 'tiny'\n"})
    said = f"Metadata-Version: 2.1\nName: {name}\nVersion: {metadata_version or version}\n"
    said += "".join(f"Requires-Dist: {one}\n" for one in requires)
    content[f"{stem}.dist-info/METADATA"] = said.encode()
    content[f"{stem}.dist-info/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    )
    record = "".join(
        f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items()
    )
    content[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    file = folder / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if "/scripts/" in path else 0o100644) << 16
            archive.writestr(entry, data)
    data = file.read_bytes()
    return Artifact(
        name=name,
        version=version,
        filename=file.name,
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        pythons=("3.10", "3.11", "3.12", "3.13", "3.14"),
    )


def make_sdist(folder, name, version, requires=()):
    """Write a source distribution whose metadata needs no code of it to be run."""
    stem = f"{name}-{version}"
    said = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
    said += "".join(f"Requires-Dist: {one}\n" for one in requires)
    with tarfile.open(folder / f"{stem}.tar.gz", "w:gz") as archive:
        for path, text in (
            ("PKG-INFO", said),
            ("pyproject.toml", "[build-system]\nrequires = []\n"),
        ):
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def _digest(data):
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
