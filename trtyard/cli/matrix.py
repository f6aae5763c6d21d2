"""``matrix``: print the matrix as text or JSON."""

import json
from contextlib import closing
from dataclasses import asdict

from trtyard.build.build import built_image
from trtyard.core.errors import EnvironmentLacksError, TrtyardError
from trtyard.lock.file import Lock, LockedRow, check_row, read_lock
from trtyard.matrix.reader import Matrix, read_matrix
from trtyard.matrix.row import UNRESOLVED, Row
from trtyard.prove.inspect import holdings
from trtyard.run.environment import existing_environment
from trtyard.system.docker_engine import connect
from trtyard.system.terminal import show
from trtyard.system.uv import GIGA, LOCK_FILE, MATRIX_FILE


def show_matrix(*, as_json: bool) -> None:
    """Print every row, its aliases, and whether its environment is ready on this machine."""
    matrix = read_matrix(MATRIX_FILE)
    lock = read_lock(LOCK_FILE)
    for row in matrix.rows.values():
        check_row(row, lock.row(row.name))
    images = _images_here(matrix, lock)
    if as_json:
        rows = [
            {
                **row.facts(row.python),
                "aliases": _aliases(matrix, row),
                "executors": list(row.executors),
                "host_pythons": list(row.host_pythons),
                "base": row.base.image,
                "base_reference": _base_reference(lock.row(row.name)),
                "host_until": row.host_until,
                "image_buildable": not lock.row(row.name).unresolved,
                "unresolved": [asdict(one) for one in lock.row(row.name).unresolved],
                "vendor_packages": dict(row.vendor_packages),
                "image_here": images.get(row.name),
            }
            for row in matrix.rows.values()
        ]
        show(json.dumps({"schema": 1, "default": matrix.default, "rows": rows}, indent=2))
        return
    for row in matrix.rows.values():
        image = images.get(row.name)
        show(_paragraph(matrix, row, lock.row(row.name), (image, held(image)) if image else None))


def _images_here(matrix: Matrix, lock: Lock) -> dict[str, str]:
    """Return the image's name for each row whose image is built for this checkout."""
    try:
        client = connect()
    except EnvironmentLacksError:
        return {}
    with closing(client):
        found = {
            row.name: built_image(client, row, lock.row(row.name)) for row in matrix.rows.values()
        }
    return {row: name for row, name in found.items() if name}


def held(image: str) -> str:
    """Return a summary of an image's contents, or the error message if it cannot be read."""
    try:
        with closing(connect()) as client:
            return f"{holdings(client, image)}; ./run inspect"
    except TrtyardError as error:
        return error.message


def _base_reference(locked: LockedRow) -> str | None:
    return None if locked.base.digest == UNRESOLVED else locked.base.reference


def _paragraph(matrix: Matrix, row: Row, locked: LockedRow, image: tuple[str, str] | None) -> str:
    wheels = locked.wheels_for(row.python)
    ready = existing_environment(row, locked)
    lines = {
        "TensorRT": f"{row.tensorrt}{' for RTX' if row.flavour == 'rtx' else ''}"
        f" (engines run on compute capability {', '.join(row.runs_on)})",
        "Python": f"{row.python}"
        + (f"; on the host {', '.join(row.host_pythons)}" if row.host_pythons else ""),
        "torch": f"{row.packages['torch']}, torchvision {row.packages['torchvision']},"
        f" CUDA {row.cuda}" + (f" (plugins by nvcc {row.nvcc})" if row.nvcc != row.cuda else ""),
        "ONNX": f"opset {row.opset}, {row.exporter} exporter; ONNX Runtime"
        f" {row.packages['onnxruntime']}",
        "plugins": f"{', '.join(row.plugin_shells)}; {row.parser} parser",
        "image from": f"{row.base.image}, digest {row.base.digest_kind}",
        "locked": f"{len(wheels)} wheels, {sum(one.size for one in wheels) / GIGA:.1f} GB;"
        f" {len(locked.sdists_for(row.python))} from source; {len(locked.debs)} debs",
        **{
            "unresolved" if not number else " " * number: f"{one.kind} {one.name} {one.version}"
            for number, one in enumerate(locked.unresolved)
        },
        **{
            "public pin" if not number else " " * number: f"{one.filename}: {one.origin};"
            " not downloaded yet"
            for number, one in enumerate(one for one in wheels if one.source == "public-pin")
        },
        **({"terms": row.terms} if row.terms else {}),
        "runs in": ", ".join(row.executors)
        + (" (on the host up to ONNX)" if row.host_until == "onnx" else ""),
        "host": f"environment ready (Python {ready.python_version})"
        if ready
        else "no environment yet; convert makes it",
        **({"image": image[0], "contents": image[1]} if image else {}),
    }
    aliases = ", ".join(_aliases(matrix, row))
    names = f"{row.name}   (also: {aliases})" if aliases else row.name
    body = "\n".join(f"  {name:<11}{value}" for name, value in lines.items())
    return f"{names}\n{body}\n"


def _aliases(matrix: Matrix, row: Row) -> list[str]:
    return [alias for alias, name in matrix.aliases().items() if name == row.name]
