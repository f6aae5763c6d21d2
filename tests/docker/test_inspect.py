"""What ``inspect`` tells of images of a few bytes, on a real engine."""

import contextlib
import hashlib
import io
import json
import signal
import subprocess
import tarfile
import uuid

import pytest
from docker.models.containers import ContainerCollection

from trtyard.cli.matrix import held
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.prove.inspect import holdings, inspect, layers_of, show_image
from trtyard.system.docker_engine import docker_command

LIBRARY = {"path": "/opt/x.so", "sha256": "1" * 64, "size": 7, "package": "numpy"}
INVENTORY = {
    "schema": 2,
    "base": {},
    "debs": {"zlib1g": "1"},
    "packages": {"numpy": {"version": "2.0", "record_sha256": "2" * 64}},
    "libraries": [LIBRARY],
}
PLUGIN = b"plugin"
NOTE = {"sha256": hashlib.sha256(PLUGIN).hexdigest()}
PLUGINS = "opt/trtyard/plugins/libtrtyard_plugins.so"
SHELLS = "opt/trtyard/plugins/libtrtyard_plugins_v2.so"


def tarred(files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def make(engine, tmp_path):
    """Return a function that makes an image of layers, each its files; all are removed."""
    names = []

    def make(*layers):
        name = f"trtyard/test-{uuid.uuid4().hex}:tiny"
        lines = ["FROM scratch"]
        for number, files in enumerate(layers):
            (tmp_path / f"{number}.tar").write_bytes(tarred(files))
            lines.append(f"ADD {number}.tar /")
        lines += ["LABEL trtyard.row=tiny", 'CMD ["/none"]', ""]
        (tmp_path / "Dockerfile").write_text("\n".join(lines))
        command = [docker_command(), "buildx", "build", "--builder", "default", "--load"]
        command += ["--provenance=false", "--tag", name, tmp_path]
        subprocess.run(command, check=True, capture_output=True)
        names.append(name)
        return name

    yield make
    for name in names:
        with contextlib.suppress(Exception):
            engine.images.remove(name)


def an_image(inventory=INVENTORY, plugin=PLUGIN):
    files = {PLUGINS: plugin, f"{PLUGINS}.json": json.dumps(NOTE).encode()}
    return {"opt/trtyard/inventory.json": json.dumps(inventory).encode()}, files


def containers_of(engine, name):
    return engine.api.containers(all=True, filters={"ancestor": name})


def test_inspect_does_not_run_the_image(engine, make, capsys):
    name = make(*an_image())
    show_image("default", target="final", image=name)
    said = capsys.readouterr().out
    for words in (
        "row        tiny",
        "numpy 2.0",
        "/opt/x.so",
        NOTE["sha256"],
        "MB not shared with other",
    ):
        assert words in said
    assert not containers_of(engine, name)
    show_image("default", target="final", image=name, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["contents"]["debs"] == {"zlib1g": "1"}
    assert found["contents"]["libraries"] == [LIBRARY]
    assert [one["diff_id"] for one in found["layers"]] == engine.images.get(name).attrs["RootFS"][
        "Layers"
    ]
    show_image("default", target="final", image=name, sbom=True)
    assert json.loads(capsys.readouterr().out)["spdxVersion"] == "SPDX-2.3"


def test_interrupt_during_create_removes_the_container(engine, make, monkeypatch):
    """It comes when the container is there, and before anybody has been told its name."""
    create = ContainerCollection.create

    def interrupted(*words, **options):
        container = create(*words, **options)
        signal.raise_signal(signal.SIGINT)
        return container

    monkeypatch.setattr(ContainerCollection, "create", interrupted)
    name = make(*an_image())
    with pytest.raises(KeyboardInterrupt):
        inspect(engine, name)
    assert not containers_of(engine, name)


def test_layers_with_equal_content_are_shared(engine, make):
    shared = {"base": uuid.uuid4().bytes * 10_000}
    first = make(shared, *an_image())
    second = make(shared, {"own": uuid.uuid4().bytes * 20_000})
    lowest, *_ = layers_of(engine, first)
    assert lowest.shared_with == (second,)
    below, above = layers_of(engine, second)
    assert below.shared_with == (first,)
    assert above.shared_with == ()
    listed = engine.images.get(second).attrs["RootFS"]["Layers"]
    assert [below.diff_id, above.diff_id] == listed
    assert lowest.size >= 160_000
    assert above.size >= 320_000


def test_unique_bytes_count_unshared_layers(engine, make):
    shared = {"base": uuid.uuid4().bytes * 10_000}
    own = {"own": uuid.uuid4().bytes * 20_000}
    first = make(shared, own, *an_image({**INVENTORY, "debs": {"own": uuid.uuid4().hex}}))
    alone = inspect(engine, first).unique_bytes
    make(shared, {"other": uuid.uuid4().bytes})
    assert 160_000 <= alone - inspect(engine, first).unique_bytes < 320_000


def test_plugins_other_than_compiled_are_refused(engine, make):
    name = make(*an_image(plugin=b"another"))
    with pytest.raises(IntegrityError, match=f"expected sha256 {NOTE['sha256']}, found"):
        inspect(engine, name)
    assert not containers_of(engine, name)


def test_second_plugin_library_is_shown_and_compared(engine, make, capsys):
    inventory, files = an_image()
    other = {SHELLS: b"shells", f"{SHELLS}.json": json.dumps(NOTE).encode()}
    with pytest.raises(IntegrityError, match=f"{SHELLS}: expected sha256 {NOTE['sha256']}"):
        inspect(engine, make(inventory, {**files, **other}))
    noted = {"sha256": hashlib.sha256(b"shells").hexdigest()}
    name = make(inventory, {**files, **other, f"{SHELLS}.json": json.dumps(noted).encode()})
    show_image("default", target="final", image=name)
    said = capsys.readouterr().out
    for one in (NOTE, noted):
        assert f"plugins    {one['sha256']}" in said
    assert holdings(engine, name) == "1 debs, 1 packages, 1 libraries, 2 plugin libraries"


def test_matrix_shows_rows_despite_a_damaged_image(engine, make):
    name = make(*an_image(plugin=b"another"))
    assert f"expected sha256 {NOTE['sha256']}" in held(name)
    assert held(make(*an_image())).startswith("1 debs, 1 packages")


def test_missing_and_foreign_images_give_different_errors(engine, make):
    with pytest.raises(EnvironmentLacksError, match="image trtyard/none:here not found"):
        inspect(engine, "trtyard/none:here")
    name = make({"file": b"x"})
    with pytest.raises(EnvironmentLacksError, match="is not a trtyard image"):
        inspect(engine, name)
    assert not containers_of(engine, name)
