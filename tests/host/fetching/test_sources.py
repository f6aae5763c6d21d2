import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from trtyard.build import build as module
from trtyard.build.bake import Options, Plan
from trtyard.build.build import _sources
from trtyard.core.errors import EnvironmentLacksError, IntegrityError
from trtyard.fetching.mirrors import NONE
from trtyard.fetching.sources import Source, check_source, export_source, fetch_source
from trtyard.fetching.sources import _environment as git_environment
from trtyard.lock.file import read_lock
from trtyard.matrix.reader import read_matrix
from trtyard.system.folders import held_folder, is_own
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE

ROW = read_matrix(MATRIX_FILE).row("8.6")
WHO = ("user.name=tester", "user.email=tester@example.org", "protocol.file.allow=always")


def git(*words, cwd):
    settings = (word for setting in WHO for word in ("-c", setting))
    command = ["git", *settings, *map(str, words)]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def hosted(tmp_path):
    """Return a stand-in for a git host, and a source there that is not the end of its branch.

    It has a submodule by a relative address, and that one has one by the real host's.
    """
    team = tmp_path / "hosted" / "team"
    for name in ("outer", "inner", "innermost"):
        folder = team / f"{name}.git"
        folder.mkdir(parents=True)
        git("init", "--quiet", "--initial-branch=main", cwd=folder)
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=folder)
        (folder / f"{name} file.txt").write_bytes(f"of {name}\r\n".encode())
        (folder / "run").write_text("#!/bin/sh\n")
        (folder / "run").chmod(0o755)
        (folder / "link").symlink_to("run")
    add = ("submodule", "--quiet", "add")
    for name, words in (
        ("innermost", ()),
        ("inner", (*add, f"file://{team}/innermost.git", "third party/innermost")),
        ("outer", (*add, "../inner.git", "deps/inner")),
    ):
        folder = team / f"{name}.git"
        if words:
            git("remote", "add", "origin", f"file://{folder}", cwd=folder)
            git(*words, cwd=folder)
        if name == "inner":  # as it is written on a real host; a mirror has to serve it too
            settings = (folder / ".gitmodules").read_text()
            (folder / ".gitmodules").write_text(
                settings.replace(f"file://{team}/", "https://github.com/team/")
            )
        git("add", "--all", cwd=folder)
        git("commit", "--quiet", "--message", name, cwd=folder)
    commit = git("rev-parse", "HEAD", cwd=team / "outer.git").strip()
    git("commit", "--quiet", "--allow-empty", "--message", "later", cwd=team / "outer.git")
    return team.parent, Source(repository="team/outer", commit=commit)


def mirror_of(folder):
    return replace(NONE, git={"github.com": f"file://{folder}"})


def listing(folder):
    """Return every file below a folder but git's own: path to mode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.name == ".git" or ".git" in path.parts or path.is_dir():
            continue
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes()
        found[path.relative_to(folder).as_posix()] = (path.lstat().st_mode & 0o100, content)
    return found


def test_source_equals_a_recursive_clone(hosted, tmp_path):
    folder, source = hosted
    fetch_source(source, tmp_path / "store", mirror_of(folder))
    export_source(source, tmp_path / "store", tmp_path / "exported")
    rewritten = ("-c", f"url.file://{folder}/.insteadOf=https://github.com/")
    clone = tmp_path / "clone"
    git(*rewritten, "clone", "--quiet", source.address, clone, cwd=tmp_path)
    git("checkout", "--quiet", source.commit, cwd=clone)
    git(*rewritten, "submodule", "--quiet", "update", "--init", "--recursive", cwd=clone)
    expected = listing(clone)
    assert "deps/inner/third party/innermost/innermost file.txt" in expected
    assert listing(tmp_path / "exported" / "outer") == expected


def test_a_submodule_that_gitmodules_does_not_name_is_left_out(hosted, tmp_path):
    folder, source = hosted
    outer = folder / "team" / "outer.git"
    git("checkout", "--quiet", source.commit, cwd=outer)
    git("update-index", "--add", "--cacheinfo", f"160000,{source.commit},ghost", cwd=outer)
    git("commit", "--quiet", "--message", "ghost", cwd=outer)
    source = replace(source, commit=git("rev-parse", "HEAD", cwd=outer).strip())
    fetch_source(source, tmp_path / "store", mirror_of(folder))
    export_source(source, tmp_path / "store", tmp_path / "exported")
    exported = tmp_path / "exported" / "outer"
    assert (exported / "deps" / "inner" / "inner file.txt").is_file()
    assert list((exported / "ghost").iterdir()) == []  # as in a checkout


def test_users_git_config_does_not_change_a_source(monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, "/of/the/user")
    monkeypatch.setenv("SSL_CERT_FILE", "/company.pem")
    monkeypatch.delenv("GIT_SSL_CAINFO", raising=False)
    found = git_environment()
    assert not [name for name, value in found.items() if value == "/of/the/user"]
    assert found["GIT_TERMINAL_PROMPT"] == "0"
    assert found["GIT_NO_REPLACE_OBJECTS"] == "1"
    assert found["GIT_SSL_CAINFO"] == "/company.pem"
    monkeypatch.setenv("GIT_SSL_CAINFO", "/git.pem")
    assert git_environment()["GIT_SSL_CAINFO"] == "/git.pem"


def test_cached_source_needs_no_host(hosted, tmp_path):
    folder, source = hosted
    first = fetch_source(source, tmp_path, mirror_of(folder))
    folder.rename(tmp_path / "gone")
    assert fetch_source(source, tmp_path, mirror_of(folder)) == first
    check_source(source, tmp_path)


def test_concurrent_fetches_both_succeed(hosted, tmp_path):
    folder, source = hosted
    with ThreadPoolExecutor(2) as pool:
        fetches = [
            pool.submit(fetch_source, source, tmp_path / "store", mirror_of(folder))
            for _ in range(2)
        ]
    assert {one.result() for one in fetches} == {source.kept_in(tmp_path / "store")}
    check_source(source, tmp_path / "store")
    assert [one.name for one in (tmp_path / "store" / "sources").iterdir()] == [
        source.kept_in(tmp_path).name
    ]


def test_host_without_single_commits_is_supported(hosted, tmp_path, capfd):
    folder, source = hosted
    for one in (folder / "team").iterdir():
        git("config", "uploadpack.allowAnySHA1InWant", "false", cwd=one)
    # Newer protocols let anything be asked for.
    git("config", "protocol.version", "0", cwd=folder / "team" / "outer.git")
    environment = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.version"}
    environment["GIT_CONFIG_VALUE_0"] = "0"
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        fetch_source(source, tmp_path, mirror_of(folder))
    assert "fetching all branches" in capfd.readouterr().err
    check_source(source, tmp_path)


def test_a_damaged_object_is_an_integrity_error(hosted, tmp_path):
    folder, source = hosted
    kept = fetch_source(source, tmp_path, mirror_of(folder))
    (pack, *_) = sorted(kept.glob("objects/pack/*.pack")) or sorted(kept.glob("objects/??/*"))
    pack.chmod(0o644)
    content = bytearray(pack.read_bytes())
    content[len(content) // 2] ^= 1
    pack.write_bytes(content)
    with pytest.raises(IntegrityError, match=source.commit) as caught:
        check_source(source, tmp_path)
    assert "./run fetch" in caught.value.hint


def replaced(kept, blob, _tmp_path):
    other = kept.parent / "other"
    other.write_text("other\n")
    named = git("--git-dir", kept, "hash-object", "-w", other, cwd=kept).strip()
    git("--git-dir", kept, "replace", blob, named, cwd=kept)


def filtered(kept, _blob, tmp_path):
    (kept / "info").mkdir(exist_ok=True)
    (kept / "info" / "attributes").write_text("* filter=other\n")
    git("--git-dir", kept, "config", "filter.other.smudge", f"tee {tmp_path}/ran", cwd=kept)


@pytest.mark.parametrize("altered", [replaced, filtered])
def test_store_content_is_checked_by_git_objects(hosted, tmp_path, altered):
    folder, source = hosted
    kept = fetch_source(source, tmp_path / "store", mirror_of(folder))
    blob = git("--git-dir", kept, "rev-parse", f"{source.commit}:outer file.txt", cwd=kept)
    altered(kept, blob.strip(), tmp_path)
    check_source(source, tmp_path / "store")
    export_source(source, tmp_path / "store", tmp_path / "exported")
    file = tmp_path / "exported" / "outer" / "outer file.txt"
    assert file.read_bytes() == b"of outer\r\n"
    assert not (tmp_path / "ran").exists()


def test_users_git_filters_change_no_file(hosted, tmp_path, monkeypatch):
    folder, source = hosted
    fetch_source(source, tmp_path / "store", mirror_of(folder))
    (tmp_path / "attributes").write_text("* filter=other\n")
    lines = ["[core]", f"attributesFile = {tmp_path}/attributes"]
    lines += ['[filter "other"]', "smudge = tr a-z A-Z", ""]
    (tmp_path / ".gitconfig").write_text("\n".join(lines))
    monkeypatch.setenv("HOME", str(tmp_path))
    export_source(source, tmp_path / "store", tmp_path / "exported")
    assert (tmp_path / "exported/outer/outer file.txt").read_bytes() == b"of outer\r\n"


def test_missing_object_is_detected(hosted, tmp_path):
    folder, source = hosted
    kept = fetch_source(source, tmp_path, mirror_of(folder))
    bare = ("--git-dir", kept)
    blob = git(*bare, "rev-parse", f"{source.commit}:outer file.txt", cwd=kept).strip()
    packs = sorted(kept.glob("objects/pack/*.pack"))
    for pack in packs:
        moved = pack.rename(tmp_path / pack.name)
        pack.with_suffix(".idx").unlink()
        with moved.open("rb") as stream:
            command = ["git", *map(str, bare), "unpack-objects", "-q"]
            subprocess.run(command, stdin=stream, check=True)
    for ref in git(*bare, "for-each-ref", "--format=%(refname)", cwd=kept).split():
        git(*bare, "update-ref", "-d", ref, cwd=kept)
    check_source(source, tmp_path)
    (kept / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(IntegrityError, match=source.commit):
        check_source(source, tmp_path)


@pytest.mark.parametrize("gone", ["commit", "host"])
def test_unreachable_source_is_named_and_leaves_nothing(hosted, tmp_path, gone):
    folder, source = hosted
    if gone == "commit":
        source = replace(source, commit="0" * 39 + "1")
    else:
        folder = tmp_path / "nowhere"
    with pytest.raises(EnvironmentLacksError, match=source.commit) as caught:
        fetch_source(source, tmp_path / "store", mirror_of(folder))
    assert "mirrors.toml" in caught.value.hint
    assert list((tmp_path / "store").rglob("*")) == [tmp_path / "store" / "sources"]
    with pytest.raises(EnvironmentLacksError, match="the store lacks"):
        check_source(source, tmp_path / "store")


def test_build_uses_the_store_instead_of_the_network(hosted, tmp_path, monkeypatch):
    folder, source = hosted
    row = replace(ROW, commits={source.repository: source.commit})
    fetch_source(source, tmp_path / "store", mirror_of(folder))
    monkeypatch.setattr("trtyard.build.build.YARD", tmp_path / "yard")
    sources = _sources(row, tmp_path / "store", NONE, dry_run=False)
    assert (sources / "outer" / "deps" / "inner" / "inner file.txt").is_file()
    assert is_own(tmp_path / "yard")  # else the build's next part refuses it
    plan = Plan(
        row=row,
        locked=read_lock(LOCK_FILE).row(ROW.name),
        base="published",
        local=(),
        image="trtyard/x:1",
        sources=sources,
    )
    words = [str(word) for word in plan.command(tmp_path, "default")]
    assert any(word.endswith(f".contexts.parser-source={sources}") for word in words)
    # From a mirror it is the same, without a store.
    again = _sources(row, None, mirror_of(folder), dry_run=False)
    assert listing(again / "outer") == listing(sources / "outer")


def test_sources_in_use_are_not_replaced(tmp_path, monkeypatch):
    plan = Plan(
        row=ROW,
        locked=read_lock(LOCK_FILE).row(ROW.name),
        base="published",
        local=(),
        image="trtyard/x:1",
        sources=tmp_path,
    )

    def bake(_):
        with pytest.raises(BlockingIOError), held_folder(tmp_path, waiting=None):
            pytest.fail("another run may write there")

    for name in ("_check_builder", "check_disk", "_report_image"):
        monkeypatch.setattr(module, name, lambda *_: None)
    monkeypatch.setattr(module, "bake", bake)
    monkeypatch.setattr(module, "confirm_pins", lambda _: None)  # nothing was downloaded here
    module._build(None, tmp_path / "docker", [plan, replace(plan, stage="runtime")], Options())
    with held_folder(tmp_path, waiting=None):
        pass
