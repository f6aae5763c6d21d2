"""A package index on loopback, which speaks the simple API of PEP 691 or PEP 503."""

import contextlib
import hashlib
import json
import re
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = "application/vnd.pypi.simple.v1+json"


class LoopbackIndex:
    """Serves the wheels and source distributions that lie in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.html = False
        self.yanked = set()
        self.broken = None  # what it answers instead of a project's page
        self.reached, self.go_on = threading.Event(), threading.Event()
        self.holds_back = None  # the project whose page waits for go_on
        self.missing = None  # a project that it does not show
        self.logins = []

    def page(self, project):
        files = sorted(one for one in self.folder.iterdir() if _project(one.name) == project)
        if not files or project == self.missing:
            return None
        listed = [
            {
                "filename": one.name,
                "url": f"/files/{one.name}",
                "hashes": {"sha256": hashlib.sha256(one.read_bytes()).hexdigest()},
                "size": one.stat().st_size,
                "yanked": one.name in self.yanked,
                "core-metadata": one.suffix == ".whl",
            }
            for one in files
        ]
        if not self.html:
            content = {"meta": {"api-version": "1.1"}, "name": project, "files": listed}
            content["versions"] = []
            return JSON, json.dumps(content)
        links = (
            f'<a href="{one["url"]}#sha256={one["hashes"]["sha256"]}"'
            f"{' data-yanked' if one['yanked'] else ''}>{one['filename']}</a><br>"
            for one in listed
        )
        return "text/html", f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>"


def _project(filename):
    return re.sub(r"[-_.]+", "-", re.split(r"-(?=\d)", filename)[0]).lower()


def _file(path):
    """Return the file's content, or of a wheel's name with .metadata that of its METADATA."""
    if path.suffix != ".metadata":
        return path.read_bytes()
    with zipfile.ZipFile(path.with_suffix("")) as wheel:
        (name,) = (one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
        return wheel.read(name)


@contextlib.contextmanager
def served(folder):
    """Yield the index of that folder, with its ``address``."""
    index = LoopbackIndex(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            kind, name = self.path.strip("/").split("/", 1)
            index.logins.append(self.headers.get("Authorization"))
            if kind == "files":
                return self.answer(200, "application/octet-stream", _file(folder / name))
            if name == index.holds_back:
                index.reached.set()
                index.go_on.wait(60)
            if index.broken is not None:
                return self.answer(*index.broken)
            page = index.page(name)
            if page is None:
                return self.answer(404, "text/plain", b"no such project")
            return self.answer(200, page[0], page[1].encode())

        def answer(self, status, kind, body):
            with contextlib.suppress(ConnectionError):  # the other side was interrupted
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        index.address = f"http://127.0.0.1:{server.server_address[1]}/simple"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield index
        finally:
            index.go_on.set()
            server.shutdown()


def variables(index, folder, vendor=None):
    """Return the environment in which uv and trtyard take packages from that index alone.

    ``folder`` gets uv's cache and the mirrors' file, ``vendor`` stands in for NVIDIA's index.
    """
    unset = ("UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")
    mirrors = folder / "mirrors.toml"
    address = (vendor or index).address
    mirrors.write_text(f'schema = 1\n[vendor]\n"pypi.nvidia.com" = "{address}"\n')
    return {
        **dict.fromkeys(unset, ""),
        "TRTYARD_MIRRORS": str(mirrors),
        "UV_DEFAULT_INDEX": index.address,
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_NO_CONFIG": "1",
        "NO_PROXY": "127.0.0.1",
    }
