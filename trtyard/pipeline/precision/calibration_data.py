"""``--calibrate``: a folder of pictures, or an .npz or .npy file, as inputs of the model."""

import hashlib
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.model import Model
from trtyard.pipeline.models.picture import read_picture

Sample = Dict[str, np.ndarray]  # every input of the model by name, with the batch that it has

FEWEST = 8
_MOST_HELD_OUT = 32
_MOST_NAMES = 5
# Of pictures. More change a range little, and all are held in memory.
_MOST = 512
_MOST_BYTES = 1 << 31
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


class CalibrationData(NamedTuple):
    """The samples, split in those that calibrate and those that are only compared."""

    source: str  # as the user typed it
    sha256: str  # of the samples that calibrate
    samples: List[Sample]
    held_out: List[Sample]


def read_calibration_data(place: str, model: Model) -> CalibrationData:
    """Return the samples in ``place``, which is a folder of pictures, an .npz or an .npy file.

    Every second sample is held out, up to 32: accuracy is measured on data that set no range.

    Raises:
        UsageError: something cannot be read or does not fit, or there are fewer than 8 samples.
    """
    path = Path(place)
    if path.is_dir():
        samples = _from_pictures(path, model)
    elif path.suffix.lower() in (".npz", ".npy") and path.is_file():
        samples = _from_arrays(_read_arrays(path, model), model, path)
    else:
        raise UsageError(
            f"--calibrate {place}: neither a folder of pictures nor an .npz or .npy file",
            "--calibrate FOLDER, or --calibrate FILE.npz",
        )
    if len(samples) < FEWEST:
        raise UsageError(
            f"--calibrate {place}: {len(samples)} samples; at least {FEWEST} are needed",
            "add samples like the model's real inputs; a few hundred are usual",
        )
    held_out = samples[1::2][:_MOST_HELD_OUT]
    chosen = samples[::2] + samples[1::2][_MOST_HELD_OUT:]
    return CalibrationData(place, _hash_of(chosen), chosen, held_out)


def _from_pictures(folder: Path, model: Model) -> List[Sample]:
    if model.prepare is None:
        raise UsageError(
            f"--calibrate {folder}: how {model.name} prepares a picture is not known",
            "give its inputs: --calibrate FILE.npz, with an array for each of "
            f"{', '.join(model.input_names)}, samples first",
        )
    files = sorted(each for each in folder.rglob("*") if each.suffix.lower() in _ENDINGS)
    files = _evenly(files, max(FEWEST, min(_MOST, _MOST_BYTES // (4 * model.inputs[0].numel()))))
    samples, problems = [], []
    for file in files:
        try:
            picture = read_picture(str(file))
        except UsageError as error:
            problems.append(error.message)
            continue
        samples.append({model.input_names[0]: model.prepare(picture.rgb).numpy()})
    if problems:
        more = len(problems) - _MOST_NAMES
        lines = problems[:_MOST_NAMES] + ([f"and {more} more"] if more > 0 else [])
        raise UsageError(
            f"--calibrate {folder}: {len(problems)} of {len(files)} pictures cannot be read:\n  "
            + "\n  ".join(lines),
            "remove or replace them",
        )
    return samples


def _evenly(files: List[Path], most: int) -> List[Path]:
    """Return at most ``most`` of the files, from the whole list."""
    if len(files) <= most:
        return files
    return [files[index * len(files) // most] for index in range(most)]


def _read_arrays(path: Path, model: Model) -> Dict[str, Any]:
    try:
        with path.open("rb") as stream:  # numpy leaves open what it cannot read
            loaded = np.load(stream, allow_pickle=False)
            if not isinstance(loaded, np.ndarray):
                return {name: loaded[name] for name in loaded.files}
        if len(model.input_names) > 1:
            raise UsageError(
                f"--calibrate {path} is one array, but {model.name} has the inputs "
                f"{', '.join(model.input_names)}",
                "write an .npz with an array for each: numpy.savez",
            )
        return {model.input_names[0]: loaded}
    except UsageError:
        raise
    except Exception as error:  # zipfile's own among others, for a file that was cut short
        raise UsageError(
            f"--calibrate {path} cannot be read: {error}", "numpy.savez writes such a file"
        ) from error


def _from_arrays(arrays: Dict[str, Any], model: Model, path: Path) -> List[Sample]:
    wanted = {
        name: (tuple(value.shape), value.numpy().dtype)
        for name, value in zip(model.input_names, model.inputs)
    }
    if len(arrays) == len(wanted) == 1:  # there is no other that it could be
        arrays = dict(zip(wanted, arrays.values()))
    if sorted(arrays) != sorted(wanted):
        raise UsageError(
            f"--calibrate {path} has the arrays {', '.join(sorted(arrays)) or 'none'}; "
            f"{model.name} has the inputs {', '.join(wanted)}",
            "numpy.savez(file, " + ", ".join(f"{name}=..." for name in wanted) + "), samples first",
        )
    batches = {
        name: _batches(name, np.asarray(arrays[name]), shape, dtype, path)
        for name, (shape, dtype) in wanted.items()
    }
    numbers = {name: len(each) for name, each in batches.items()}
    if len(set(numbers.values())) > 1:
        listed = ", ".join(f"{number} of {name}" for name, number in numbers.items())
        raise UsageError(f"--calibrate {path} has different numbers of samples: {listed}")
    return [dict(zip(batches, each)) for each in zip(*batches.values())]


def _batches(
    name: str, array: np.ndarray, shape: Tuple[int, ...], dtype: np.dtype, path: Path
) -> Sequence[np.ndarray]:
    """Return the array as inputs of ``shape``: with its batch, or gathered into batches."""
    if array.dtype.kind != dtype.kind and not (array.dtype.kind in "iu" and dtype.kind in "iu"):
        raise UsageError(f"--calibrate {path}: {name} is {array.dtype}, the model takes {dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise UsageError(f"--calibrate {path}: {name} has NaN or infinite values")
    if array.ndim and array.shape[1:] == shape:
        return list(array.astype(dtype))
    if shape and array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        whole = len(array) // shape[0]
        return list(array[: whole * shape[0]].reshape(whole, *shape).astype(dtype))
    raise UsageError(
        f"--calibrate {path}: {name} has the shape {list(array.shape)}; the model takes "
        f"{list(shape)}",
        f"an array of shape {['N', *shape[1:]]}, samples first".replace("'", ""),
    )


def _hash_of(samples: Sequence[Sample]) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        for name in sorted(sample):
            value = np.ascontiguousarray(sample[name])
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()
