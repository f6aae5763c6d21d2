"""A batch on Slurm downloads weights before it submits anything."""

import hashlib
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from trtyard.batch.batch import download_weights
from trtyard.batch.jobs_file import in_folder_of, read_jobs
from trtyard.fetching import weights

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(weights, "_RETRIES", 0)
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "net.pth").write_bytes(CONTENT)
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_weights_are_downloaded_and_errors_are_printed(address, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "FOLDER", tmp_path / "cache")
    file = tmp_path / "jobs.toml"
    file.write_text(
        f"""
        [[jobs]]
        models = ["alexnet", "vgg11"]
        weights = "{address}/net.pth#sha256={SHA256}"
        in = "host"
        [[jobs]]
        models = ["resnet18"]
        weights = "{address}/missing.pth#sha256={SHA256}"
        in = "host"
        """
    )
    with in_folder_of(file):
        jobs = read_jobs(file, tmp_path / "out")
    download_weights(jobs)
    found = [one for one in (tmp_path / "cache").iterdir() if one.suffix == ".pth"]
    assert [one.read_bytes() for one in found] == [CONTENT]
    said = capsys.readouterr().err
    assert re.search(r"/resnet18-\S+: the weights were not downloaded from 127\.0\.0\.1: 404", said)
    assert said.count("downloading") == 2
