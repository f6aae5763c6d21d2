"""The step that puts a patched parser in its place, on a library that every image has."""

import pytest
from docker.errors import ContainerError

from trtyard.render.dockerfiles import TEMPLATES
from trtyard.system.uv import ROOT

STEP = ROOT / TEMPLATES / "steps" / "replace-library"
# Another library under the same name: an ELF file may have bytes behind its end.
MAKE = (
    "mkdir /new; known=$(/sbin/ldconfig -p | awk '$1 == \"liblzma.so.5\" { print $NF }');"
    " cp -L $known /new/liblzma.so.5; printf other >> /new/liblzma.so.5; "
)
SHOW = (
    "sha256sum < /new/liblzma.so.5; sha256sum < $known;"
    " /usr/bin/python3 -c 'import lzma'; echo loads"
)


def run(engine, image, script):
    return engine.containers.run(
        image,
        entrypoint="bash",
        command=["-euc", script],
        user="0",
        network_mode="none",
        remove=True,
        stderr=True,
        volumes={str(STEP): {"bind": "/step", "mode": "ro"}},
    ).decode()


def test_the_loader_finds_the_new_library_under_the_old_name(engine, image):
    *_, wanted, found, loads = run(engine, image, MAKE + "/step /new/*; " + SHOW).splitlines()
    assert wanted == found
    assert loads == "loads"
    *_, wanted, found, _ = run(engine, image, MAKE + SHOW).splitlines()
    assert wanted != found


def test_unknown_library_exits_with_3(engine, image):
    script = MAKE + "mv /new/liblzma.so.5 /new/libnowhere.so.1; /step /new/*"
    with pytest.raises(ContainerError) as caught:
        run(engine, image, script)
    assert caught.value.exit_status == 3
    assert b"no libnowhere.so.1" in caught.value.stderr
