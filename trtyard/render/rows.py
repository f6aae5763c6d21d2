"""``./run row``: lists rows and available releases, adds and removes rows.

A row is in versions.toml, versions.lock and images/. All three change together or not at all.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trtyard.core.errors import EnvironmentLacksError, UsageError
from trtyard.core.file_changes import Change, change_together
from trtyard.fetching.tensorrt_releases import (
    Offer,
    chosen,
    cuda_packages,
    nearest_row,
    offers,
    parse_release,
    row_name,
    torch_release,
)
from trtyard.fetching.vendor import INDEX_HOST
from trtyard.lock.difference import difference
from trtyard.lock.file import Lock, LockedRow, check_lock, lock_text, read_lock
from trtyard.lock.relock import with_patches
from trtyard.lock.resolve import resolve_row
from trtyard.matrix.compatibility import release_of
from trtyard.matrix.new_row import refuse_bound, row_like
from trtyard.matrix.reader import Matrix, parse_matrix, read_matrix
from trtyard.matrix.row import Flavour, Row
from trtyard.matrix.text import with_row, without_row
from trtyard.render.dockerfiles import IMAGES, differing, remove_empty_folders, render
from trtyard.system.interruptions import held_back
from trtyard.system.terminal import say, show
from trtyard.system.uv import LOCK_FILE, MATRIX_FILE, ROOT

_OPTIONS = {
    "torch": (r"\d+\.\d+(\.\d+)?", "a release like 2.12 or 2.12.1"),
    "python": (r"3\.\d{1,2}", "a Python like 3.11"),
    "cuda": (r"\d+\.\d+", "a CUDA release like 13.0"),
    "opset": (r"\d{1,2}", "a whole number like 18"),
}


def add_row(release: str, *, like: str, **options: str) -> None:
    """Add a row for a published TensorRT release, as a copy of an existing row.

    ``options`` are torch, python, cuda and opset; an empty one keeps the value of the copied row.
    The errors are those of ``chosen``, of the rules and of resolving. After an error, no file has
    changed.
    """
    flavour, numbers = parse_release(release)
    for option, (pattern, expected) in _OPTIONS.items():
        if options[option] and not re.fullmatch(pattern, options[option]):
            raise UsageError(f"--{option} must be {expected}, not {options[option]!r}")
    matrix, lock, text = _now()
    name = row_name(flavour, numbers)
    model = _model(matrix, name, flavour, numbers, like)
    offer, row = _published_row(model, name, numbers, options)
    words = "".join(f" --{key} {value}" for key, value in options.items() if value)
    note = f"TensorRT {name}, made by: ./run row add {release} --like {model.name}{words}"
    new_text = with_row(matrix, text, row, like=model, note=note)
    say(f"resolving row {name} for Python {', '.join(row.pythons)}")
    model_lock = lock.row(model.name)
    locked = with_patches(row, resolve_row(row, model_lock, shared=model_lock))
    rows = {**lock.rows, name: locked}
    _write(text, new_text, rows, lock)
    show(f"{name}: like {model.name}, with TensorRT {offer.version} for CUDA {row.cuda}")
    _show_dropped(row, model)
    for line in difference(lock.rows, rows):
        if line.startswith(f"{name}:"):
            show(line)
    _show_unresolved(locked, model_lock)
    show(f"next: ./run matrix; then: ./run convert --trt {name} --model alexnet --until onnx")


def _now() -> tuple[Matrix, Lock, str]:
    """Return matrix, lock and the matrix's text; check that they match and can be written."""
    matrix, lock = read_matrix(MATRIX_FILE), read_lock(LOCK_FILE)
    check_lock(matrix, lock)
    for folder in (ROOT, ROOT / IMAGES):
        if not os.access(folder, os.W_OK):
            raise EnvironmentLacksError(
                f"no permission to write to {folder}", "use a checkout of your own"
            )
    return matrix, lock, MATRIX_FILE.read_text(encoding="utf-8")


def _model(matrix: Matrix, name: str, flavour: Flavour, numbers: tuple[int, ...], like: str) -> Row:
    """Return the row to copy; ``UsageError`` if it cannot be copied for this release."""
    if name in matrix.rows:
        raise UsageError(
            f"versions.toml already has row {name}: TensorRT {matrix.rows[name].tensorrt}",
            f"remove it first: ./run row remove {name}   or edit it, then: ./run lock",
        )
    nearest = nearest_row(matrix.rows.values(), flavour, (numbers[0], numbers[1]))
    model = matrix.row(like) if like else nearest
    kind = {"rtx": "TensorRT for RTX", "full": "full TensorRT"}
    if model is None or model.flavour != flavour:
        raise UsageError(
            f"{name} is {kind[flavour]}, but"
            + (f" row {model.name} is {kind[model.flavour]}" if model else " no row is"),
            "choose another --like: ./run row list",
        )
    refuse_bound(model)
    return model


def _published_row(
    model: Row, name: str, numbers: tuple[int, ...], options: Mapping[str, str]
) -> tuple[Offer, Row]:
    """Return the release on the package index, and the new row with it."""
    python, cuda = options["python"] or model.python, options["cuda"] or model.cuda
    offer = chosen(offers(), model.flavour, numbers, python, cuda)
    what: dict[str, Any] = {
        "name": name,
        "tensorrt": offer.tensorrt,
        "packaged": str(offer.version),
        "pythons": offer.pythons_for(cuda),
        "python": python,
        "cuda": cuda,
        "opset": int(options["opset"]) if options["opset"] else model.opset,
        "torch": torch_release(options["torch"]) if options["torch"] else "",
    }
    row = row_like(model, **what)
    if pins := cuda_packages(model, cuda):  # queries the index, so only after the rules
        row = row_like(model, **what, cuda_packages=pins)
    return offer, row


def remove_row(name: str) -> None:
    """Remove the row with exactly this name (no alias)."""
    matrix, lock, text = _now()
    row = matrix.row(name)
    if name != row.name:
        raise UsageError(f"{name} is an alias of row {row.name}", f"./run row remove {row.name}")
    if name == matrix.default:
        raise UsageError(
            f"{name} is the default row", "change default in versions.toml first, then: ./run lock"
        )
    rows = {key: one for key, one in lock.rows.items() if key != name}
    _write(text, without_row(matrix, text, name), rows, lock)
    show(f"{name}: removed from versions.toml, versions.lock and images/")


def list_rows(*, available: bool) -> None:
    """Print the rows, or with ``available`` the published TensorRT releases and how to add them."""
    matrix = read_matrix(MATRIX_FILE)
    lines: list[Sequence[str]]
    if available:
        lines = [("row", "TensorRT", "CUDA", "Python", "")]
        newest: dict[str, Offer] = {}
        for offer in offers():
            newest.setdefault(offer.row, offer)
        lines += [_available(matrix, offer) for offer in newest.values()]
    else:
        lines = [("row", "TensorRT", "CUDA", "Python", "torch")]
        lines += [
            (row.name, row.tensorrt, row.cuda, row.python, row.packages["torch"])
            for row in matrix.rows.values()
        ]
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line[:4], widths, strict=True)]
        show("  ".join([*cells, line[4]]).rstrip())


def _available(matrix: Matrix, offer: Offer) -> tuple[str, str, str, str, str]:
    cudas = sorted({found[1] for name in offer.pythons if (found := re.search(r"-cu(\d+)", name))})
    pythons = sorted({int(one[2:]) for each in offer.pythons.values() for one in each})
    span = f"3.{pythons[0]} to 3.{pythons[-1]}"
    return offer.row, str(offer.version), ", ".join(cudas) or "-", span, _verdict(matrix, offer)


def _verdict(matrix: Matrix, offer: Offer) -> str:
    """Return the command that adds the release, or why it cannot be added."""
    if offer.row in matrix.rows:
        has = matrix.rows[offer.row].tensorrt
        same = f"{has}.".startswith(f"{offer.tensorrt}.")  # old packages omit the build number
        return "a row" if same else f"a row, with {has}"
    numbers = release_of(offer.tensorrt)
    like = nearest_row(matrix.rows.values(), offer.flavour, numbers)
    if like is None:
        return "no row of this kind to copy"
    try:
        found = chosen([offer], offer.flavour, numbers, like.python, like.cuda)
        row_like(
            like,
            name=found.row,
            tensorrt=found.tensorrt,
            packaged=str(found.version),
            pythons=found.pythons_for(like.cuda),
        )
    except UsageError as error:
        message = error.message.removeprefix(f"row {offer.row} cannot be like {like.name}: ")
        return message.removeprefix(f"TensorRT {offer.row} ")
    return f"./run row add {offer.row} --like {like.name}"


def _write(text: str, new_text: str, rows: Mapping[str, LockedRow], before: Lock) -> None:
    """Write matrix, lock and images, all or nothing; signals wait until all are written."""
    matrix = parse_matrix(new_text, MATRIX_FILE)
    lock = Lock(rows={name: rows[name] for name in matrix.rows})
    check_lock(matrix, lock)
    rendered = render(matrix, lock)
    pairs: list[tuple[Path, str | None]] = [(MATRIX_FILE, new_text), (LOCK_FILE, lock_text(lock))]
    pairs += [(ROOT / path, rendered.get(path)) for path in differing(rendered)]
    if MATRIX_FILE.read_text(encoding="utf-8") != text or read_lock(LOCK_FILE) != before:
        raise EnvironmentLacksError(
            "versions.toml or versions.lock has changed in the meantime; nothing was written",
            "run the command again",
        )
    changes = [
        Change(
            file,
            file.read_bytes() if file.exists() else None,
            None if content is None else content.encode(),
        )
        for file, content in pairs
    ]
    with held_back():
        try:
            change_together(changes)
        finally:
            remove_empty_folders()


def _show_dropped(row: Row, like: Row) -> None:
    """Print the GPUs and Pythons of ``like`` that the row does not support."""
    gpus = [one for one in like.runs_on if one not in row.runs_on]
    if gpus:
        show(f"  without GPUs of compute capability {', '.join(gpus)}: {row.tensorrt} lacks them")
    pythons = [one for one in like.host_pythons if one not in row.host_pythons]
    if pythons:
        show(f"  without Python {', '.join(pythons)} on the host: no wheels of {row.tensorrt}")


def _show_unresolved(locked: LockedRow, like: LockedRow) -> None:
    """Print each unresolved entry, and for a wheel the commands that resolve it."""
    files = {one.name: one.filename.split("-", 2)[2] for one in like.wheels}
    for one in locked.unresolved:
        show(f"  unresolved: {one.kind} {one.name} {one.version}: {one.reason}")
        if one.kind == "wheel":
            tags = files.get(one.name, "py3-none-manylinux_2_28_x86_64.whl")
            file = f"{one.name.replace('-', '_')}-{one.version}-{tags}"
            again = f"./run lock --upgrade {locked.name}"
            show(f"    on a machine that can reach {INDEX_HOST}: {again}")
            show(f"    or with {file} in a folder: UV_FIND_LINKS=FOLDER {again}")
