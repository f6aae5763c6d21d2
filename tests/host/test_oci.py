import hashlib
import io
import json
import tarfile

import pytest

from trtyard.oci import differences, read_layout
from trtyard.pipeline.errors import IntegrityError

PLAIN = {"etc/a": {}, "etc/b": {}}


def blob(folder, data):
    digest = hashlib.sha256(data).hexdigest()
    file = folder / "blobs" / "sha256" / digest
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return {"digest": f"sha256:{digest}"}


def layout(folder, files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, facts in files.items():
            entry = tarfile.TarInfo(name)
            data = facts.get("data", b"text")
            entry.size, entry.mode = len(data), facts.get("mode", 0o644)
            entry.mtime = facts.get("mtime", 1)
            tar.addfile(entry, io.BytesIO(data))
    layer = blob(folder, buffer.getvalue())
    config = blob(folder, json.dumps({"diff_ids": [layer["digest"]]}).encode())
    manifest = blob(folder, json.dumps({"config": config, "layers": [layer]}).encode())
    (folder / "index.json").write_text(json.dumps({"manifests": [manifest]}))
    return read_layout(folder)


def test_equal_images_have_no_differences(tmp_path):
    assert not list(differences(layout(tmp_path / "1", PLAIN), layout(tmp_path / "2", PLAIN)))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({**PLAIN, "etc/b": {"data": b"TEXT"}}, "  /etc/b: sha256 "),
        ({**PLAIN, "etc/b": {"mode": 0o755}}, "  /etc/b: mode 0o644 and 0o755"),
        ({**PLAIN, "etc/b": {"mtime": 2}}, "  /etc/b: mtime 1 and 2"),
        ({**PLAIN, "etc/c": {}}, "  /etc/c: only in the second"),
        ({"etc/a": {}}, "  /etc/b: only in the first"),
        ({"etc/b": {}, "etc/a": {}}, "  the same files, in another order"),
    ],
)
def test_what_differs_is_named_and_nothing_else_is(tmp_path, files, words):
    found = list(differences(layout(tmp_path / "1", PLAIN), layout(tmp_path / "2", files)))
    assert [line.partition(":")[0] for line in found[:3]] == ["config", "manifest", "layer 1"]
    assert len(found) == 4
    assert found[3].startswith(words)


def test_a_layout_of_no_image_is_refused(tmp_path):
    (tmp_path / "index.json").write_text('{"manifests": []}')
    with pytest.raises(IntegrityError, match="0 images"):
        read_layout(tmp_path)
