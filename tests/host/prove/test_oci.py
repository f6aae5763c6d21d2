import hashlib
import io
import json
import tarfile

import pytest

from trtyard.core.errors import IntegrityError
from trtyard.prove.oci import differences, read_image

FILES = {"etc/": {"type": tarfile.DIRTYPE, "mode": 0o755}, "etc/a": {}, "etc/b": {}}
CONFIG = {"Env": ["PATH=/bin", "HOME=/tmp"], "Labels": {"one": "1"}}


def blob(folder, data):
    digest = hashlib.sha256(data).hexdigest()
    file = folder / "blobs" / "sha256" / digest
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return f"sha256:{digest}"


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, given in files.items():
            entry = tarfile.TarInfo(name)
            facts = {"mode": 0o644, "mtime": 1, "data": b"text", **given}
            data = facts.pop("data")
            data = data if "type" not in facts else b""
            for key, value in facts.items():
                setattr(entry, key, value)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def write(folder, *layers, config=CONFIG, diff_ids=None, indent=None):
    """Write a layout by the OCI image specification; return its folder."""
    digests = [blob(folder, layer) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": digests if diff_ids is None else diff_ids}
    body = {"architecture": "amd64", "config": config, "rootfs": rootfs}
    manifest = {
        "schemaVersion": 2,
        "config": {"digest": blob(folder, json.dumps(body, indent=indent).encode())},
        "layers": [{"digest": digest} for digest in digests],
    }
    named = {"digest": blob(folder, json.dumps(manifest).encode())}
    (folder / "index.json").write_text(json.dumps({"manifests": [named]}))
    return folder


@pytest.fixture
def compared(tmp_path):
    """Return a function that writes two images and gives their differences as text."""

    def compare(first, second):
        images = [
            read_image(write(tmp_path / name, *layers, **settings))
            for name, (layers, settings) in (("1", first), ("2", second))
        ]
        return [str(one) for one in differences(*images)]

    return compare


def of_files(*files, **settings):
    return [packed(one) for one in files], settings


def test_equal_images_have_no_differences(compared):
    assert compared(of_files(FILES, {"x": {}}), of_files(FILES, {"x": {}})) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"etc/b": {"data": b"TEXT!"}},
            "/etc/b: content sha256 982d9e3eb996, 4 bytes and sha256 032f6d026306, 5 bytes",
        ),
        ({"etc/b": {"mode": 0o4755}}, "/etc/b: mode 0644 and 4755"),
        ({"etc/": {"mode": 0o700, "type": tarfile.DIRTYPE}}, "/etc: mode 0755 and 0700"),
        ({"etc/b": {"mtime": 2}}, "/etc/b: mtime 1 and 2"),
        (
            {"etc/b": {"pax_headers": {"mtime": "1.000000001"}}},
            "/etc/b: mtime 1 and 1.000000001",
        ),
        ({"etc/b": {"uid": 5}}, "/etc/b: owner 0:0 and 5:0"),
        ({"etc/b": {"gid": 7}}, "/etc/b: owner 0:0 and 0:7"),
        (
            {"etc/b": {"pax_headers": {"SCHILY.xattr.user.x": "1"}}},
            "/etc/b: xattrs none and user.x='1'",
        ),
        ({"etc/c": {}}, "/etc/c: only in the second (file present)"),
        ({"etc/.wh.c": {}}, "/etc/c: only in the second (file removed)"),
    ],
)
def test_only_differences_are_named(compared, changed, expected):
    found = compared(of_files({"x": {}}, FILES), of_files({"x": {}}, {**FILES, **changed}))
    assert found == [f"layer 2: {expected}"]


def test_files_only_in_the_first_are_named(compared):
    fewer = {name: facts for name, facts in FILES.items() if name != "etc/b"}
    assert compared(of_files(FILES), of_files(fewer)) == [
        "layer 1: /etc/b: only in the first (file present)"
    ]


@pytest.mark.parametrize(
    ("kind", "name"), [(tarfile.SYMTYPE, "symlink"), (tarfile.LNKTYPE, "hard link")]
)
def test_changed_link_is_named(compared, kind, name):
    links = [{**FILES, "l": {"type": kind, "linkname": f"etc/{to}"}} for to in "ab"]
    assert compared(of_files(links[0]), of_files(links[1])) == ["layer 1: /l: link etc/a and etc/b"]
    found = compared(of_files(links[0]), of_files({**FILES, "l": {}}))
    assert f"layer 1: /l: type {name} and file" in found


def test_changed_device_numbers_are_named(compared):
    devices = [
        {"d": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": minor}} for minor in (3, 5)
    ]
    assert compared(*map(of_files, devices)) == ["layer 1: /d: device 1:3 and 1:5"]


def test_file_order_changes_the_layer(compared):
    (found,) = compared(of_files(FILES), of_files(dict(reversed(FILES.items()))))
    assert found.startswith("layer 1: digest sha256:")


def test_extra_layer_is_named(compared):
    (found,) = compared(of_files(FILES), of_files(FILES, {"x": {}}))
    assert found.startswith("layer 2: only in the second (digest sha256:")


def test_each_layer_that_differs_is_named_by_its_number(compared):
    ones = [{name: {"data": data}} for name, data in (("a", b"1"), ("b", b"1"), ("c", b"1"))]
    twos = [{"a": {"data": b"2"}}, {"b": {"data": b"1"}}, {"c": {"data": b"2"}}]
    found = compared(of_files(*ones), of_files(*twos))
    assert [line.partition(": content")[0] for line in found] == ["layer 1: /a", "layer 3: /c"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {**CONFIG, "Env": ["PATH=/bin", "HOME=/root"]},
            'config.Env[1]: value "HOME=/tmp" and "HOME=/root"',
        ),
        (
            {**CONFIG, "Labels": {"one": "1", "two": "2"}},
            'config.Labels.two: only in the second (value "2")',
        ),
        ({"Env": CONFIG["Env"]}, 'config.Labels: only in the first (value {"one": "1"})'),
        ({**CONFIG, "Env": CONFIG["Env"][:1]}, 'config.Env[1]: only in the first (value "HOME='),
        (
            {**CONFIG, "Labels": {"one": "1", "two": "absent"}},
            'config.Labels.two: only in the second (value "absent")',
        ),
        ({**CONFIG, "User": None}, "config.User: only in the second (value null)"),
    ],
)
def test_a_configuration_that_differs_is_named_by_its_key(compared, config, expected):
    (found,) = compared(of_files(FILES), of_files(FILES, config=config))
    assert found.startswith(f"config: {expected}")


def test_a_configuration_written_differently_is_another_image(compared):
    (found,) = compared(of_files(FILES), of_files(FILES, indent=1))
    assert found.startswith("config: digest sha256:")


def test_difference_as_json(tmp_path):
    images = [
        read_image(write(tmp_path / str(mode), packed({"a": {"mode": mode}})))
        for mode in (0o644, 0o755)
    ]
    assert [one.facts() for one in differences(*images)] == [
        {"where": "layer 1", "path": "/a", "attribute": "mode", "first": "0644", "second": "0755"}
    ]


@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
def test_damaged_blob_is_refused(tmp_path, which):
    folder = write(tmp_path, packed(FILES))
    (manifest,) = json.loads((folder / "index.json").read_text())["manifests"]
    image = read_image(folder)
    digest = {"layer": image.layers[0], "config": image.digest, "manifest": manifest["digest"]}
    file = folder / "blobs/sha256" / digest[which].removeprefix("sha256:")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match=digest[which]) as caught:
        read_image(folder)
    assert caught.value.exit_code == 5


def test_missing_blob_is_named(tmp_path):
    image = read_image(write(tmp_path, packed(FILES)))
    image.layer(image.layers[0]).unlink()
    with pytest.raises(IntegrityError, match=f"blob {image.layers[0]} is missing"):
        read_image(tmp_path)


def test_layers_must_match_the_config(tmp_path):
    folder = write(tmp_path, packed(FILES), diff_ids=[f"sha256:{'0' * 64}"])
    with pytest.raises(IntegrityError, match="layers do not match the configuration's diff_ids"):
        read_image(folder)


def test_layer_that_is_not_a_tar_is_refused(tmp_path):
    images = [read_image(write(tmp_path / name, name.encode() * 999)) for name in "ab"]
    with pytest.raises(IntegrityError, match="is not a tar layer"):
        list(differences(*images))


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ('{"manifests": []}', "0 images"),
        ("{", "not an OCI layout with an image"),
        ("[]", "not an OCI layout with an image"),
        ('{"manifests": [{"digest": "sha256:../../etc"}]}', "not a sha256 digest"),
        (None, "not an OCI layout with an image"),
    ],
)
def test_folder_without_a_layout_is_refused(tmp_path, index, words):
    if index is not None:
        (tmp_path / "index.json").write_text(index)
    with pytest.raises(IntegrityError, match=words):
        read_image(tmp_path)
