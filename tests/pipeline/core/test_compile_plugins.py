import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trtyard.core.errors import ConversionError, EnvironmentLacksError, UsageError
from trtyard.core.plugins import compile_plugins as compiling
from trtyard.core.plugins import cuda_compiler
from trtyard.core.plugins.compile_plugins import (
    LIBRARY_NAME,
    CompiledPlugins,
    compile_libraries,
    compile_plugins,
    find_nvcc,
)

SOURCES = Path(__file__).parents[3] / "plugins"
ARCHITECTURES = ["89"]  # one is enough here, and quick; a row's list is longer
EXPORTS = {
    "trtyard_abi_version",
    "trtyard_status_string",
    "trtyard_padded_nms_workspace",
    "trtyard_padded_nms",
    "trtyard_roi_align_workspace",
    "trtyard_roi_align",
    "trtyard_multiscale_roi_align_workspace",
    "trtyard_multiscale_roi_align",
}
OK, BAD_ARGUMENT, WORKSPACE_TOO_SMALL, WORKSPACE_MISALIGNED, UNSUPPORTED_DTYPE, TOO_LARGE = range(
    0, -6, -1
)
ANY_POINTER = 256  # aligned, and never read: the calls below end before any work is started
MOST_INT32 = 2**31 - 1


def require_compilers() -> None:
    try:
        find_nvcc()
        cuda_compiler.require_host_compiler()
    except EnvironmentLacksError as lack:
        pytest.skip(lack.message)


@pytest.fixture(scope="module")
def compiled(plugin_cache: Path) -> CompiledPlugins:
    require_compilers()
    return compile_plugins(SOURCES, plugin_cache / LIBRARY_NAME, ARCHITECTURES)


@pytest.fixture(scope="module")
def library(compiled: CompiledPlugins) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(compiled.library))
    loaded.trtyard_status_string.restype = ctypes.c_char_p
    loaded.trtyard_padded_nms_workspace.restype = ctypes.c_size_t
    loaded.trtyard_roi_align_workspace.restype = ctypes.c_size_t
    return loaded


def padded_nms(library: ctypes.CDLL, **changes: object) -> int:
    arguments = {
        "boxes": ANY_POINTER, "scores": ANY_POINTER, "indices": ANY_POINTER, "count": ANY_POINTER,
        "batch": 2, "classes": 3, "box_classes": 1, "boxes_per_class": 5, "keep_top_k": 4,
        "iou_threshold": 0.5, "score_threshold": 0.1, "box_offset": 0, "dtype": 0,
        "workspace": ANY_POINTER, "workspace_bytes": 1 << 30, "stream": 0, **changes,
    }  # fmt: skip
    pointer, size, whole, real = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_float,
    )  # fmt: skip
    library.trtyard_padded_nms.argtypes = (
        [pointer] * 4 + [whole] * 5 + [real] * 2 + [whole] * 2 + [pointer, size, pointer]
    )
    return int(library.trtyard_padded_nms(*arguments.values()))


def roi_align(library: ctypes.CDLL, **changes: object) -> int:
    arguments = {
        "features": ANY_POINTER, "rois": ANY_POINTER, "batch_indices": ANY_POINTER,
        "pooled": ANY_POINTER, "batch": 2, "channels": 3, "height": 8, "width": 9, "rois_count": 4,
        "output_height": 7, "output_width": 7, "spatial_scale": 0.25, "sampling_ratio": 0,
        "aligned": 0, "mode": 0, "dtype": 0, "features_format": 0, "pooled_format": 0,
        "workspace": ANY_POINTER, "workspace_bytes": 1 << 30, "stream": 0, **changes,
    }  # fmt: skip
    pointer, size, whole, real = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int32, ctypes.c_float,
    )  # fmt: skip
    library.trtyard_roi_align.argtypes = (
        [pointer] * 4 + [whole] * 7 + [real] + [whole] * 6 + [pointer, size, pointer]
    )
    return int(library.trtyard_roi_align(*arguments.values()))


def test_library_exports_only_the_c_interface(compiled: CompiledPlugins) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not on PATH")
    listing = subprocess.run(
        [nm, "-D", "--defined-only", str(compiled.library)],
        check=True, stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip
    assert {line.split()[-1] for line in listing.splitlines()} == EXPORTS


def test_library_tells_its_version_and_every_status(library: ctypes.CDLL) -> None:
    assert library.trtyard_abi_version() == 4
    words = {status: library.trtyard_status_string(status).decode() for status in range(0, -6, -1)}
    assert words[OK] == "ok"
    assert len(set(words.values())) == len(words)
    assert "256" in words[WORKSPACE_MISALIGNED]
    assert library.trtyard_status_string(-99) == b"unknown status"
    out_of_memory = 2  # cudaErrorMemoryAllocation
    assert library.trtyard_status_string(out_of_memory) == b"out of memory"


def test_workspace_is_known_without_gpu_and_grows(library: ctypes.CDLL) -> None:
    ask = library.trtyard_padded_nms_workspace
    for nothing in ((0, 3, 5, 4), (2, 0, 5, 4), (2, 3, 0, 4), (2, 3, 5, 0)):
        assert ask(*nothing) == 0
    for refused in ((-1, 3, 5, 4), (1, 50_000, 50_000, 4), (2, 3, 5, -1)):
        assert ask(*refused) == 0
    sizes = [ask(1, 80, boxes, 100) for boxes in (1, 1000, 2048, 2049, 100_000)]
    assert sizes[0] > 0
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[1] > sizes[0]
    assert ask(1, 1, 1000, MOST_INT32) >= ask(1, 1, 1000, 1000)


# Where the kernels go another way: one tile or more, segments, cells of a resident map, tables.
NMS_SIZES = (
    (0, 1, 2, 31, 32, 33, 64),
    (0, 1, 2, 16, 32, 33, 90),
    (0, 1, 2048, 2049, 6000),
    (1, 1000),
)
MAP_SIDES = (0, 1, 16, 17, 100, 107, 163, 181, 182, 200, 304, 327, 328, 1000, 32767, 32768, 32769)
ROI_SIZES = ((0, 1, 2), (1, 64), MAP_SIDES, MAP_SIDES, (0, 3, 4, 5, 1000))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_workspace_is_enough_for_all_smaller_sizes(
    library: ctypes.CDLL, data: st.DataObject
) -> None:
    """An engine asks for the largest sizes of its profile, and is run with any others."""
    for ask, sizes, outputs in (
        (library.trtyard_padded_nms_workspace, NMS_SIZES, [()]),
        (library.trtyard_roi_align_workspace, ROI_SIZES, [(7, 7), (14, 14), (3, 15)]),
    ):
        pairs = [sorted(data.draw(st.tuples(*2 * [st.sampled_from(one)]))) for one in sizes]
        output = data.draw(st.sampled_from(outputs))
        smaller, larger = zip(*pairs)
        assert ask(*smaller, *output) <= ask(*larger, *output)


@settings(max_examples=500, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.data())
def test_large_map_workspace_fits_every_smaller_map(
    library: ctypes.CDLL, height: int, width: int, data: st.DataObject
) -> None:
    small_height = data.draw(st.integers(1, min(height, 32768)))
    small_width = data.draw(st.integers(1, min(width, 32768 // small_height)))
    tiles = -(-small_height // 16) - (-small_width // 16)
    held = library.trtyard_roi_align_workspace(1, 64, height, width, 1000, 14, 14)
    assert held >= 1000 * tiles * 1024


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"batch": -1}, BAD_ARGUMENT),
        ({"classes": -1}, BAD_ARGUMENT),
        ({"boxes_per_class": -1}, BAD_ARGUMENT),
        ({"keep_top_k": -1}, BAD_ARGUMENT),
        ({"box_classes": 2}, BAD_ARGUMENT),
        ({"box_offset": 2}, BAD_ARGUMENT),
        ({"iou_threshold": float("nan")}, BAD_ARGUMENT),
        ({"score_threshold": float("nan")}, BAD_ARGUMENT),
        ({"boxes": 0}, BAD_ARGUMENT),
        ({"scores": 0}, BAD_ARGUMENT),
        ({"indices": 0}, BAD_ARGUMENT),
        ({"count": 0}, BAD_ARGUMENT),
        ({"dtype": 3}, UNSUPPORTED_DTYPE),
        ({"dtype": -1}, UNSUPPORTED_DTYPE),
        ({"classes": 50_000, "boxes_per_class": 50_000}, TOO_LARGE),
        ({"batch": 1 << 20, "classes": 1 << 6, "boxes_per_class": 1 << 6}, TOO_LARGE),
        ({"workspace_bytes": 100}, WORKSPACE_TOO_SMALL),
        ({"workspace": 0}, WORKSPACE_TOO_SMALL),
        ({"workspace": ANY_POINTER + 16}, WORKSPACE_MISALIGNED),
        ({"batch": 0, "boxes": 0, "scores": 0, "indices": 0, "count": 0, "workspace": 0}, OK),
    ],
)
def test_padded_nms_checks_its_arguments(
    library: ctypes.CDLL, changes: "dict[str, object]", status: int
) -> None:
    assert padded_nms(library, **changes) == status


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"batch": -1}, BAD_ARGUMENT),
        ({"rois_count": -1}, BAD_ARGUMENT),
        ({"output_height": -1}, BAD_ARGUMENT),
        ({"sampling_ratio": -1}, BAD_ARGUMENT),
        ({"aligned": 2}, BAD_ARGUMENT),
        ({"mode": 2}, BAD_ARGUMENT),
        ({"features_format": 3}, BAD_ARGUMENT),
        ({"pooled_format": -1}, BAD_ARGUMENT),
        ({"spatial_scale": float("nan")}, BAD_ARGUMENT),
        ({"spatial_scale": float("inf")}, BAD_ARGUMENT),
        ({"features": 0}, BAD_ARGUMENT),
        ({"rois": 0}, BAD_ARGUMENT),
        ({"batch_indices": 0}, BAD_ARGUMENT),
        ({"pooled": 0}, BAD_ARGUMENT),
        ({"dtype": 3}, UNSUPPORTED_DTYPE),
        ({"rois_count": 1 << 20, "channels": 1 << 12}, TOO_LARGE),
        ({"height": 1 << 16, "width": 1 << 16}, TOO_LARGE),
        ({"rois_count": 0, "rois": 0, "batch_indices": 0, "pooled": 0}, OK),
        ({"channels": 0, "features": 0, "pooled": 0}, OK),
    ],
)
def test_roi_align_checks_its_arguments(
    library: ctypes.CDLL, changes: "dict[str, object]", status: int
) -> None:
    assert roi_align(library, **changes) == status


@pytest.mark.skipif(
    Path("/dev/nvidiactl").exists(), reason="a GPU is here; the case is a machine without one"
)
def test_without_a_gpu_a_call_returns_cuda_s_own_error(library: ctypes.CDLL) -> None:
    for status in (padded_nms(library), roi_align(library)):
        assert status > 0
        assert library.trtyard_status_string(status) != b"unknown status"


@pytest.mark.slow
def test_the_same_sources_in_another_folder_give_the_same_bytes(
    compiled: CompiledPlugins, tmp_path: Path
) -> None:
    assert_the_same_elsewhere(SOURCES, compiled, tmp_path)


def assert_the_same_elsewhere(sources: Path, compiled: CompiledPlugins, folder: Path) -> None:
    copy = folder / "elsewhere, with a space" / "deeper"
    shutil.copytree(str(sources), str(copy))
    library = folder / "other-name.so"
    again = compile_plugins(copy, library, ARCHITECTURES)
    assert not again.cached
    assert again.sha256 == compiled.sha256
    for each in (folder, sources.parent, find_nvcc().parents[1]):
        assert str(each).encode() not in library.read_bytes()


@pytest.fixture
def small_sources(tmp_path: Path) -> Path:
    """A source folder that compiles in a second."""
    require_compilers()
    folder = tmp_path / "sources"
    (folder / "one").mkdir(parents=True)
    (folder / "one" / "one.cu").write_text('extern "C" int one() { return 1; }\n')
    return folder


def test_a_small_source_in_another_folder_gives_the_same_bytes(
    small_sources: Path, tmp_path: Path
) -> None:
    first = compile_plugins(small_sources, tmp_path / "lib.so", ARCHITECTURES)
    assert_the_same_elsewhere(small_sources, first, tmp_path)


@pytest.mark.parametrize("name", ["two words", "a,b", "(é)", "it's"])
def test_any_name_of_the_temporary_folder_will_do(
    small_sources: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / name))
    assert compile_plugins(small_sources, tmp_path / "lib.so", ARCHITECTURES).library.is_file()
    assert not list((tmp_path / name).iterdir())


def test_compiles_again_only_when_something_changed(small_sources: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    first = compile_plugins(small_sources, library, ARCHITECTURES)
    assert compile_plugins(small_sources, library, ARCHITECTURES) == first._replace(cached=True)
    assert not compile_plugins(small_sources, library, ["86"]).cached

    (small_sources / "one" / "one.cu").write_text('extern "C" int one() { return 11; }\n')
    changed = compile_plugins(small_sources, library, ["86"])
    assert not changed.cached
    assert changed.sha256 != first.sha256

    library.write_bytes(b"damaged")
    assert compile_plugins(small_sources, library, ["86"]) == changed


def test_two_libraries_compile_each_kernel_once(
    small_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = tmp_path / "headers"
    headers.mkdir()
    (headers / "NvInfer.h").write_text("#define ANSWER 2\n")
    (headers / "NvInferVersion.h").write_text("#define NV_TENSORRT_MAJOR 8\n")
    shell = '#include <NvInfer.h>\n__attribute__((visibility("default"))) int two = ANSWER;\n'
    (small_sources / "one" / "one_v2.cpp").write_text(shell)
    alone = [
        compile_plugins(small_sources, tmp_path / "alone.so", ARCHITECTURES),
        compile_plugins(small_sources, tmp_path / "alone_v2.so", ARCHITECTURES, headers=headers),
    ]
    commands: list[str] = []

    def run(command: "list[str]", *others: Path, **options: "tuple[str, ...]") -> str:
        commands.append(" ".join(command))
        return cuda_compiler.run_compiler(command, *others, **options)

    monkeypatch.setattr(compiling, "run_compiler", run)
    libraries = {tmp_path / "both.so": None, tmp_path / "both_v2.so": headers}
    both = compile_libraries(small_sources, libraries, ARCHITECTURES)
    assert [one.sha256 for one in both] == [one.sha256 for one in alone]
    assert both[0].sha256 != both[1].sha256
    assert not any(one.cached for one in both)
    assert sum(" -c one/one.cu " in command for command in commands) == 1

    (headers / "NvInfer.h").write_text("#define ANSWER 3\n")
    again = compile_libraries(small_sources, libraries, ARCHITECTURES)
    assert [one.cached for one in again] == [True, False]
    assert again[1].sha256 != both[1].sha256


def test_compile_error_is_shown_and_old_library_kept(small_sources: Path, tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"old")
    (small_sources / "one" / "one.cu").write_text("int one() { return missing; }\n")
    with pytest.raises(ConversionError, match=r"one\.cu\(1\).*missing"):
        compile_plugins(small_sources, library, ARCHITECTURES)
    assert library.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lib.so", "sources"]


def test_unknown_compiler_flag_is_left_out(
    small_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvcc = [str(find_nvcc())]
    assert cuda_compiler.taken_by(nvcc, ["-O3", "--no-such-option"], "cu") == ["-O3"]
    # As GCC 7 does, which the oldest row's distribution has.
    real, old = shutil.which("g++"), tmp_path / "bin" / "g++"
    old.parent.mkdir()
    refuses = "case \"$*\" in *-ffile-prefix-map*) echo 'error: unrecognized' >&2; exit 1;; esac"
    old.write_text(f'#!/bin/sh\n{refuses}\nexec {real} "$@"\n')
    old.chmod(0o755)
    for name in ("gcc", "cc1plus"):  # what nvcc asks for beside it
        found = shutil.which(name)
        if found:
            (old.parent / name).symlink_to(found)
    monkeypatch.setenv("PATH", f"{old.parent}{os.pathsep}{os.environ['PATH']}")
    flag = "-ffile-prefix-map=/a=b"
    assert cuda_compiler.taken_by(["g++"], [flag, "-O2"], "c++") == ["-O2"]
    assert compile_plugins(small_sources, tmp_path / "out.so", ARCHITECTURES).library.is_file()


def test_unknown_architecture_is_named(small_sources: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacksError, match="compute_999") as raised:
        compile_plugins(small_sources, tmp_path / "lib.so", ["999"])
    assert "--list-gpu-arch" in str(raised.value.hint)


@pytest.mark.parametrize("architectures", [[], ["8.0"], ["sm_80"], ["80", "-x"]])
def test_wrong_architectures_are_refused(architectures: "list[str]", tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="architecture"):
        compile_plugins(SOURCES, tmp_path / "lib.so", architectures)


def test_a_folder_without_kernels_or_headers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernels"):
        compile_plugins(tmp_path, tmp_path / "lib.so", ARCHITECTURES)
    with pytest.raises(UsageError, match=r"NvInfer\.h"):
        compile_plugins(SOURCES, tmp_path / "lib.so", ARCHITECTURES, headers=tmp_path)


def test_a_missing_compiler_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_compiler.sys, "path", [])
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentLacksError, match="nvcc") as no_nvcc:
        compile_plugins(SOURCES, tmp_path / "lib.so", ARCHITECTURES)
    assert "nvidia-cuda-nvcc" in str(no_nvcc.value.hint)
    with pytest.raises(EnvironmentLacksError, match=r"g\+\+") as no_gxx:
        compile_plugins(SOURCES, tmp_path / "lib.so", ARCHITECTURES, nvcc=Path(os.devnull))
    assert "apt-get install" in str(no_gxx.value.hint)
