import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trtyard.core.errors import IntegrityError, UsageError
from trtyard.lock.file import read_lock
from trtyard.lock.patches import patches_for, releases_of
from trtyard.matrix.reader import read_matrix
from trtyard.render.dockerfiles import (
    BAKE_FILE,
    COMPILING_MODULES,
    IMAGES,
    PATCHING_MODULES,
    TEMPLATES,
    check_rendered,
    context_files,
    render,
    write_rendered,
)
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

MATRIX = read_matrix(MATRIX_FILE)
LOCK = read_lock(LOCK_FILE)
FILES = render(MATRIX, LOCK)
every_row = pytest.mark.parametrize("row", MATRIX.rows.values(), ids=lambda row: row.name)


def rendered(row, name):
    return FILES[IMAGES / row.name / name]


def instructions(row):
    """Return the Dockerfile's instructions: first word; the rest with heredoc and all."""
    found = []
    lines = iter(rendered(row, "Dockerfile").splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        whole = [line]
        while whole[-1].endswith("\\"):
            whole.append(next(lines))
        heredoc = re.search(r"<<(\w+)$", whole[-1])
        while heredoc and whole[-1] != heredoc[1]:
            whole.append(next(lines))
        word, _, rest = "\n".join(whole).partition(" ")
        found.append((word, rest))
    return found


def steps(row):
    return [rest for word, rest in instructions(row) if word == "RUN"]


def test_committed_images_are_up_to_date():
    check_rendered(FILES)


def test_rendering_again_in_another_process_gives_the_same_bytes():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from trtyard.lock.file import read_lock; from trtyard.matrix.reader import read_matrix\n"
        "from trtyard.render.dockerfiles import render\n"
        "from trtyard.system.uv import LOCK_FILE, MATRIX_FILE\n"
        "files = render(read_matrix(MATRIX_FILE), read_lock(LOCK_FILE))\n"
        "sys.stdout.write(repr([(str(path), text) for path, text in files.items()]))"
    )
    command = [sys.executable, "-I", "-c", code, str(ROOT)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert out == repr([(str(path), text) for path, text in FILES.items()])


@every_row
def test_every_stage_starts_from_another_stage_or_from_a_digest(row):
    stages = set()
    for word, rest in instructions(row):
        if word == "FROM":
            source, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            unknown = LOCK.row(row.name).base.digest == "unresolved"
            empty = source == "scratch" and (
                name in ("store", "debs", "vendor", "lists", "parser-source")
                or (name == "base" and unknown)
            )
            assert (
                empty or source in stages or re.fullmatch(r"[^:@]+@sha256:[0-9a-f]{64}", source)
            ), source
            stages.add(name)
        for origin in re.findall(r"\bfrom=([^,\s]+)", rest):
            assert origin in stages
    assert {"base", "build-base", "env", "final"} <= stages


@every_row
def test_dockerfiles_use_no_latest_tag_frontend_or_url(row):
    text = rendered(row, "Dockerfile")
    assert "latest" not in text
    assert not re.search(r"^#\s*syntax", text, flags=re.MULTILINE)
    assert "://" not in re.sub(r"^ADD .*", "", text, flags=re.MULTILINE)
    for word, rest in instructions(row):
        if word == "ADD":  # a repository at a commit, which is the hash of all that is in it
            commit = re.fullmatch(
                r"--checksum=([0-9a-f]{40}) https://\S+\.git#\1(?::include)? \S+", rest
            )[1]
            assert commit in row.commits.values()
    assert not re.search(r"\b(curl|wget|git clone)\b", text)


@every_row
def test_only_steps_that_compare_hashes_have_a_network(row):
    assert steps(row)
    for step in steps(row):
        if step.startswith("--network=none"):
            continue
        script = step.partition("<<STEP\n")[2]
        fetches = re.findall(r"/steps/(?:install|unpack)-\S+ |pip .*(?:install|download) ", script)
        assert fetches, script
        commands = re.findall(
            r"^.*\bpip (?:install|download) (?:.*\\\n)*.*", script, flags=re.MULTILINE
        )
        assert len(commands) == len(re.findall(r"\bpip ", re.sub(r"#.*", "", script)))
        for command in commands:
            assert "--require-hashes" in command
            assert "--no-deps" in command


@every_row
def test_options_fit_the_rows_pip_and_nvcc(row):
    text = rendered(row, "Dockerfile")
    # As a variable pip 18 takes it for a folder, and fails; --python came with pip 22.3.
    assert "PIP_NO_CACHE_DIR" not in text
    assert "pip --python" not in text
    assert ("--threads" in text) == (row.cuda != "10.2")


@pytest.mark.parametrize(
    "script", ["install-packages", "install-debs", "unpack-debs", "fetch-vendor"]
)
def test_the_step_scripts_that_fetch_compare_hashes(script):
    text = (ROOT / TEMPLATES / "steps" / script).read_text()
    assert "--require-hashes" in text or "sha256sum" in text or "hashlib.sha256" in text


@every_row
def test_compile_steps_have_no_network(row):
    compiling = [
        step
        for step in steps(row)
        if re.search(r"build-sources |build-parser |compile_plugins|/wheels/|compileall", step)
        and "install-packages" not in step
    ]
    assert len(compiling) >= 3
    assert all(step.startswith("--network=none") for step in compiling)


@every_row
def test_package_lists_have_a_hash_for_each_package(row):
    names = ["requirements.txt", "requirements-compile.txt", "tools.txt"]
    for name in [*names, "sources.txt"] if row.sources else names:
        for line in rendered(row, name).splitlines():
            assert re.fullmatch(r"[a-z0-9-]+==[\w.+!]+( --hash=sha256:[0-9a-f]{64})+", line), line


@every_row
def test_image_installs_locked_packages_except_excluded(row):
    locked = {wheel.name for wheel in LOCK.row(row.name).wheels_for(row.python)}
    listed = {line.partition("==")[0] for line in rendered(row, "requirements.txt").splitlines()}
    assert listed == locked - set(row.image.leave_out)
    assert set(row.image.leave_out) < locked


@every_row
def test_every_deb_has_version_and_hash(row):
    for name in ("debs.txt", "build-debs.txt"):
        lines = rendered(row, name).splitlines()
        unresolved = {one.kind for one in LOCK.row(row.name).unresolved}
        assert bool(lines) != ("debs" in unresolved)
        for line in lines:
            assert re.fullmatch(r"[a-z0-9][a-z0-9+.-]+ \S+ (amd64|all) [0-9a-f]{64}", line), line


@every_row
def test_only_unresolved_rows_have_the_guard(row):
    words = [word for word, _ in instructions(row)]
    guards = [rest for word, rest in instructions(row) if word == "COPY" and "unresolved" in rest]
    assert len(guards) == bool(LOCK.row(row.name).unresolved)
    for guard in guards:
        name, target = guard.split()
        assert target == "/"
        assert not (ROOT / name).exists()
        assert words.index("COPY") < words.index("RUN")
        for one in LOCK.row(row.name).unresolved:
            assert one.kind in name


@every_row
def test_image_contains_no_secret(row):
    for word, rest in instructions(row):
        if word in ("ENV", "ARG", "LABEL", "COPY"):
            assert not re.search(r"(?i)token|password|secret|credential|certs", rest), rest
        for mount in re.findall(r"--mount=type=secret\S*", rest):
            assert re.search(r"\bid=(ca|index|indexes|apt|snapshots|netrc|vendor),", mount)
            assert "env=" not in mount


@every_row
def test_the_image_does_not_run_as_root(row):
    final = instructions(row)[::-1]
    user = next(rest for word, rest in final if word == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)


@every_row
def test_pipeline_is_copied_last(row):
    word, rest = instructions(row)[-1]
    assert (word, rest) == ("COPY", "--link --from=code /out/ /")


@every_row
def test_rendered_files_have_a_generated_header(row):
    for name in ("Dockerfile", "Dockerfile.dockerignore"):
        assert rendered(row, name).startswith("# Generated by ./run render")
    assert json.loads(FILES[BAKE_FILE])["//"].startswith("Generated by ./run render")


def test_plugin_stage_copies_every_module_that_compiling_imports():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import trtyard.core.plugins.compile_plugins\n"
        "for name in sorted(sys.modules):\n"
        "    if name.partition('.')[0] == 'trtyard': print(sys.modules[name].__file__)"
    )
    command = [sys.executable, "-I", "-c", code, str(ROOT)]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    imported = {Path(line).relative_to(ROOT).as_posix() for line in out.splitlines()}
    assert imported == set(COMPILING_MODULES)


@pytest.fixture
def copy(tmp_path):
    """Return a folder with templates and images as committed."""
    for name in (TEMPLATES, IMAGES):
        shutil.copytree(ROOT / name, tmp_path / name)
    return tmp_path


def test_undefined_name_in_a_template_is_an_error(copy):
    part = copy / TEMPLATES / "parts" / "final.j2"
    part.write_text(part.read_text() + "\n# {{ row.no_such_key }}\n")
    with pytest.raises(UsageError, match=r"templates/.*no_such_key"):
        render(MATRIX, LOCK, templates=copy / TEMPLATES)


def test_invalid_template_is_named(copy):
    (copy / TEMPLATES / "Dockerfile.j2").write_text("{% if %}")
    with pytest.raises(UsageError, match=r"templates/Dockerfile\.j2"):
        render(MATRIX, LOCK, templates=copy / TEMPLATES)


@pytest.mark.parametrize("change", ["edited", "deleted", "added"])
def test_changed_image_file_is_reported_and_rendered_again(copy, change):
    file = IMAGES / MATRIX.default / "Dockerfile"
    if change == "edited":
        (copy / file).write_text((copy / file).read_text().replace("--require-hashes", ""))
    elif change == "deleted":
        (copy / file).unlink()
    else:
        file = IMAGES / "9.9" / "Dockerfile"
        (copy / file).parent.mkdir()
        (copy / file).write_text("FROM scratch\n")
    with pytest.raises(IntegrityError, match=re.escape(str(file))):
        check_rendered(FILES, copy)
    assert write_rendered(FILES, copy) == [file]
    check_rendered(FILES, copy)
    assert not (copy / IMAGES / "9.9").exists()


def test_a_change_of_the_lock_shows_in_the_images():
    row = MATRIX.row("default")
    locked = LOCK.row(row.name)
    wheels = tuple(
        replace(wheel, sha256="0" * 64) if wheel.name == "torch" else wheel
        for wheel in locked.wheels
    )
    other = replace(LOCK, rows={**LOCK.rows, row.name: replace(locked, wheels=wheels)})
    changed = {path for path, text in render(MATRIX, other).items() if FILES[path] != text}
    assert changed == {IMAGES / row.name / name for name in ("requirements.txt", "env-torch.txt")}


def test_a_lock_of_another_matrix_is_not_rendered():
    row = MATRIX.row("default")
    locked = replace(LOCK.row(row.name), matrix_sha256="0" * 64)
    with pytest.raises(IntegrityError):
        render(MATRIX, replace(LOCK, rows={row.name: locked}))


@pytest.mark.parametrize("key", ["leave_out", "compile_with"])
def test_name_missing_from_the_lock_is_refused(key):
    row = MATRIX.row("default")
    row = replace(row, image=replace(row.image, **{key: ("no-such-package",)}))
    locked = replace(LOCK.row(row.name), matrix_sha256=row.sha256())
    with pytest.raises(UsageError, match="no-such-package"):
        render(replace(MATRIX, rows={row.name: row}), replace(LOCK, rows={row.name: locked}))


@every_row
def test_build_context_is_exactly_the_files_in_the_key(row):
    ignored = rendered(row, "Dockerfile.dockerignore").splitlines()
    assert "*" in ignored
    wanted = [line[1:] for line in ignored if line.startswith("!")]
    sent = context_files(row)
    assert sent == sorted(sent)
    for file in sent:
        assert any(file.as_posix() == one or one in map(str, file.parents) for one in wanted), file
    for path in COMPILING_MODULES:
        assert Path(path) in sent


def test_step_scripts_parse_and_are_executable():
    scripts = sorted((ROOT / TEMPLATES / "steps").iterdir())
    assert scripts
    for script in scripts:
        assert script.stat().st_mode & 0o111, script.name
        program = script.read_text().partition("\n")[0].removeprefix("#!")
        if program == "/usr/bin/python3 -I":
            compile(script.read_text(), script.name, "exec")
        else:
            subprocess.run([program, "-n", script], check=True)


def test_drift_exits_with_5_and_names_the_file(tasks, checkout):
    shutil.copytree(ROOT / "plugins", checkout / "plugins", dirs_exist_ok=True)
    assert tasks("render", "--check", root=checkout).returncode == 0
    file = checkout / BAKE_FILE
    file.write_text(file.read_text() + "\n")
    done = tasks("render", "--check", root=checkout)
    assert done.returncode == 5
    assert str(BAKE_FILE) in done.stderr
    assert "./run render" in done.stderr
    assert tasks("render", root=checkout).returncode == 0
    assert tasks("render", "--check", root=checkout).returncode == 0


@every_row
def test_image_applies_only_the_rows_patches(row):
    series = {f"patches/{one.project}/{one.version}" for one in patches_for(row)}
    releases = [f"--release {one}={it}" for one, it in releases_of(row).items()]
    applying = [step for step in steps(row) if "target=/tmp/series" in step]
    assert {re.search(r"source=(\S+),target=/tmp/series", one)[1] for one in applying} == series
    for step in applying:
        assert all(release in step for release in releases)
        for module in PATCHING_MODULES:
            assert f"source={module},target=/tmp/steps/{module}" in step
    context = {path.parent.as_posix() for path in context_files(row) if path.suffix == ".patch"}
    assert context == series
    assert all(f"!{one}\n" in rendered(row, "Dockerfile.dockerignore") for one in series)


@every_row
def test_patched_parser_replaces_the_loaded_library(row):
    replacing = [step for step in steps(row) if "replace-library" in step]
    assert len(replacing) == (row.parser == "patched")
    assert "LD_PRELOAD" not in rendered(row, "Dockerfile")


def test_patches_are_applied_before_python_files_are_compiled():
    row = MATRIX.rows["7.0"]
    (step,) = [one for one in steps(row) if "patches/torch" in one]
    assert step.index("/steps/install-packages /") < step.index("patching.py apply")
    assert "compileall" not in step.partition("patching.py apply")[0]


def test_a_patched_parser_without_a_commit_is_refused():
    rows = {**MATRIX.rows, "8.6": replace(MATRIX.rows["8.6"], commits={})}
    locked = replace(LOCK.row("8.6"), matrix_sha256=rows["8.6"].sha256())
    with pytest.raises(UsageError, match=r"rows\.8\.6\.parser is patched"):
        render(replace(MATRIX, rows=rows), replace(LOCK, rows={**LOCK.rows, "8.6": locked}))


def test_protobuf_commit_adds_its_sources_to_the_parser_stage():
    old, commit = MATRIX.rows["8.6"], "ab" * 20
    parsers = {"onnx/onnx-tensorrt": old.commits["onnx/onnx-tensorrt"]}

    def dockerfile(commits):
        row = replace(old, commits=commits)
        locked = replace(LOCK.row("8.6"), matrix_sha256=row.sha256())
        rows, lock_rows = {**MATRIX.rows, "8.6": row}, {**LOCK.rows, "8.6": locked}
        made = render(replace(MATRIX, rows=rows), replace(LOCK, rows=lock_rows))
        (text,) = [it for path, it in made.items() if path.as_posix().endswith("8.6/Dockerfile")]
        return text

    text = dockerfile({**parsers, "protocolbuffers/protobuf": commit})
    source = text.partition(" AS parser-source\n")[2].partition("\n\n")[0].splitlines()
    assert source == [
        f"ADD --checksum={it} https://github.com/{repository}.git#{it} /{name}"
        for repository, name, it in (
            ("onnx/onnx-tensorrt", "onnx-tensorrt", old.commits["onnx/onnx-tensorrt"]),
            ("protocolbuffers/protobuf", "protobuf", commit),
        )
    ]
    assert "a statically linked protobuf" in text
    assert "the distribution's protobuf" in dockerfile(parsers)
    # What build-parser looks for, beside the sources that it is given.
    assert (
        'protobuf=$(dirname "$sources")/protobuf'
        in (ROOT / TEMPLATES / "steps" / "build-parser").read_text()
    )


def test_patching_imports_only_its_modules():
    script = (
        "import sys; sys.argv = ['x', '--help']; import runpy\n"
        "try: runpy.run_path('trtyard/core/patches/patching.py', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "names = [m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'trtyard']\n"
        "sys.stderr.write('\\n'.join(map(str, names)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    imported = {Path(line).relative_to(ROOT).as_posix() for line in done.stderr.splitlines()}
    assert imported | {"trtyard/core/patches/patching.py"} == set(PATCHING_MODULES)


@every_row
def test_labels_have_a_title_and_no_license(row):
    text = rendered(row, "Dockerfile")
    product = "TensorRT for RTX" if row.flavour == "rtx" else "TensorRT"
    said = re.findall(r'image\.description="([^"]*)"', text)
    assert len(said) == (2 if row.image.runtime else 1)
    assert all(one.endswith(f" {product} {row.tensorrt}") for one in said)
    assert "image.licenses" not in text
