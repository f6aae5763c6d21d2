"""Read weights from a file without running code, and load them strictly, key by key."""

import hashlib
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np
import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.checkpoint_keys import (
    COUNT,
    STATE_KEYS,
    State,
    find_weights,
    hint_for_prefix,
    plain_names,
)
from trtyard.pipeline.models.not_numbers import bad_variances, is_spoilt
from trtyard.pipeline.models.safetensors import SUFFIX, read_safetensors
from trtyard.pipeline.torch_support.versions import load_tensors

MAXIMUM_LISTED = 20
# torch.load adds to every refusal how to load the file anyway, which runs its code.
_TORCH_ADVICE = re.compile(r"In PyTorch 2\.6, we changed|If you are seeing this error")
# DETR and related projects save the training options, which contain no code, with the weights.
_NAMESPACE = (
    'python -c "import argparse, torch; '
    "torch.serialization.add_safe_globals([argparse.Namespace]); "
    "torch.save(torch.load({!r}, 'cpu')['model'], 'weights.pth')\"   (torch 2.6 and newer)"
)
_SHORTEST_REASON = 8  # characters; a shorter one is only a number or letter from the file


class Checkpoint(NamedTuple):
    """The weights in a file."""

    state: State  # by names without wrappers' prefixes
    notes: Tuple[str, ...]  # for the report


def read_state(path: str) -> State:
    """Return only the weights of ``read_checkpoint``."""
    return read_checkpoint(path).state


def read_checkpoint(path: str, key: str = "") -> Checkpoint:
    """Read the weights in the checkpoint at ``path``: a state dict, bare or under other keys.

    Wrappers' prefixes, such as ``module.``, are removed. The file is read with
    ``weights_only=True``, which runs no code from it. safetensors files contain no code.

    Args:
        path: of the file.
        key: of the weights in the file; empty to search for them (see ``find_weights``).

    Raises:
        UsageError: the file is missing, unreadable or no checkpoint, or it has code, values other
            than tensors, or NaN or infinite weights.
    """
    content, note = find_weights(_load(path), key, path)
    if not isinstance(content, Mapping) or not content:
        raise UsageError(
            f"{path} holds no weights: expected a mapping of names to tensors, on its own or below "
            f"{', '.join(STATE_KEYS)} or another key",
            "save it with torch.save(model.state_dict(), FILE)",
        )
    strangers = [
        f"{key}: {type(value).__name__}"
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if strangers:
        raise UsageError(
            f"{path} holds more than tensors among its weights:\n{listing(strangers)}",
            "save it with torch.save(model.state_dict(), FILE)",
        )
    state = OrderedDict((name, content[full]) for name, full in plain_names(content).items())
    _refuse_not_finite(state, path)
    return Checkpoint(state, () if note is None else (note,))


def fit(module: torch.nn.Module, state: State, path: str) -> None:
    """Copy ``state`` into ``module``, which must have exactly the same keys.

    Counts of batches may be missing or extra, because no output depends on them. A tensor that the
    module has under several names needs only one of them.

    Raises:
        UsageError: keys are missing, extra or of another shape or type, or a norm's variance is not
            positive. The message lists them.
    """
    tensors = _tensors(module)
    own = OrderedDict((name, tensors[full]) for name, full in plain_names(tensors).items())
    state = {**_tied(own, state), **state}
    problems = _problems(own, state)
    if any(not key.endswith(COUNT) for key, _ in problems):
        lines = [line for _, line in problems]
        raise UsageError(
            f"{path} does not fit this model, which has {len(own)} keys:\n{listing(lines)}",
            hint_for_prefix(list(own), list(state), path)
            or "give the checkpoint of this very model with --weights FILE, or --weights seeded",
        )
    needed = [key for key in own if key in state]
    with torch.no_grad():
        for key in needed:
            own[key].copy_(state[key])
        lost = [key for key in needed if not torch.equal(own[key], state[key].to(own[key]))]
    if lost:
        raise UsageError(
            f"{path} has different values for one tensor of this model:\n{listing(lost)}",
            "give the checkpoint of a model that shares these weights as yours does",
        )
    refuse_bad_variances(module, path)


def refuse_bad_variances(module: torch.nn.Module, path: str) -> None:
    """Raise UsageError if a norm's variances, loaded from ``path``, make it compute NaN."""
    bad = bad_variances(module)
    if bad:
        raise UsageError(
            f"{path} holds running variances that make the model compute NaN:\n{listing(bad)}",
            "take a checkpoint from before the training diverged",
        )


def _problems(own: State, state: State) -> List[Tuple[str, str]]:
    """Return each key that does not match, with the reason in a line."""
    problems = [(key, f"missing: {key} {list(own[key].shape)}") for key in own if key not in state]
    problems += [
        (key, f"extra: {key} {list(state[key].shape)}")
        for key in state
        if key not in own and not _counts_for(key, own)
    ]
    for key in own:
        if key not in state:
            continue
        mine, given = own[key], state[key]
        if mine.shape != given.shape:
            line = f"shape: {key} is {list(given.shape)}, not {list(mine.shape)}"
            problems.append((key, line))
        elif mine.is_floating_point() != given.is_floating_point():
            problems.append((key, f"type: {key} is {given.dtype}, not {mine.dtype}"))
    return problems


def _tied(own: State, state: State) -> State:
    """Return the values of keys missing in ``state`` whose tensor the module shares with others.

    safetensors saves a shared tensor under only one name.
    """
    by_place = {_place(own[key]): state[key] for key in own if key in state}
    return {
        key: by_place[_place(value)]
        for key, value in own.items()
        if key not in state and value.numel() and _place(value) in by_place
    }


def _place(value: torch.Tensor) -> Tuple[Any, ...]:
    return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()


def _counts_for(key: str, own: State) -> bool:
    """Return whether ``key`` counts the batches of a norm that is frozen in this module."""
    return key.endswith("." + COUNT) and key[: -len(COUNT)] + "running_var" in own


def state_sha256(module: torch.nn.Module) -> str:
    """Return the sha256 of the module's state: name, type, shape and bytes, sorted by name."""
    digest = hashlib.sha256()
    for key, value in sorted(_tensors(module).items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        value = value.detach().cpu().contiguous()
        if value.dtype == torch.bfloat16:  # numpy has no bfloat16; float32 has every value of it
            value = value.float()
        digest.update(value.numpy().reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _tensors(module: torch.nn.Module) -> State:
    """Return the tensors of the module's state, without its extra state."""
    state = module.state_dict()
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def listing(lines: Sequence[str]) -> str:
    """Return the lines indented, with a count instead of the lines above the limit."""
    shown = [f"  {line}" for line in lines[:MAXIMUM_LISTED]]
    if len(lines) > MAXIMUM_LISTED:
        shown.append(f"  ... and {len(lines) - MAXIMUM_LISTED} more")
    return "\n".join(shown)


def _load(path: str) -> Any:
    if not Path(path).is_file():
        what = "is a folder" if Path(path).is_dir() else "no such file"
        raise UsageError(
            f"weights {path}: {what}",
            "--weights takes seeded, seeded:N or the path of a checkpoint file",
        )
    try:
        with warnings.catch_warnings():
            # The warnings are about pickle protocols and typed storage. Real problems raise.
            warnings.simplefilter("ignore")
            return read_safetensors(path) if path.endswith(SUFFIX) else load_tensors(path)
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None:
            raise _not_a_checkpoint(path, error) from error
        raise UsageError(
            f"{path} is refused: loading it would run code ({named.group(1)}). "
            "Only tensors are taken from a weights file",
            _NAMESPACE.format(path)
            if named.group(1) == "argparse.Namespace"
            else "save the weights alone: torch.save(model.state_dict(), FILE)",
        ) from error
    except PermissionError as error:
        raise UsageError(f"weights {path} cannot be read: {error}", "check its rights") from error
    except Exception as error:  # other files raise any error
        raise _not_a_checkpoint(path, error) from error


def _not_a_checkpoint(path: str, error: Exception) -> UsageError:
    if Path(path).stat().st_size == 0:
        return UsageError(f"weights {path}: the file is empty", "copy or download it again")
    reason = _TORCH_ADVICE.split((str(error).splitlines() or [""])[0])[0].rstrip(". ")[:200]
    if "TorchScript" in reason:
        return UsageError(
            f"{path} is a TorchScript archive: code and weights",
            f"save its weights alone: torch.save(torch.jit.load({path!r}).state_dict(), FILE)",
        )
    if reason == "Weights only load failed":
        reason = "a pickle that torch.save did not write"
    if len(reason) < _SHORTEST_REASON:
        reason = type(error).__name__
    return UsageError(
        f"{path} is not a torch checkpoint, or is truncated ({reason})",
        "copy or download it again, or save it with torch.save(model.state_dict(), FILE)",
    )


def _refuse_not_finite(state: State, path: str) -> None:
    spoilt = [key for key, value in state.items() if is_spoilt(value)]
    if spoilt:
        raise UsageError(
            f"{path} holds NaN or infinite weights:\n{listing(spoilt)}",
            "take a checkpoint from before the training diverged",
        )
