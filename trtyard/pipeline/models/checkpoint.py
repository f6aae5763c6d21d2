"""Weights from a file: read without running code, and fitted strictly, key by key."""

import hashlib
import pickle
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch

from trtyard.pipeline.errors import UsageError
from trtyard.pipeline.models.safetensors import SUFFIX, read_safetensors
from trtyard.pipeline.torch_versions import load_tensors

# Keys under which training scripts save the weights beside optimizer, scheduler and iteration.
STATE_KEYS = ("model", "state_dict", "model_state_dict", "net")
PARALLEL_PREFIX = "module."  # put before every key by torch.nn.parallel's wrappers
MAXIMUM_LISTED = 20
# What torch.load adds to every refusal: how to load the file all the same, which runs its code.
_TORCH_ADVICE = re.compile(r"In PyTorch 2\.6, we changed|If you are seeing this error")
_SHORTEST_REASON = 8  # characters; below it is a number or a letter of the file

State = Dict[str, torch.Tensor]


def read_state(path: str) -> State:
    """Read the weights in the checkpoint at ``path``: a state dict, bare or below ``STATE_KEYS``.

    The ``module.`` prefix of parallel training is taken off. The file is read with
    ``weights_only=True``: it can name tensors, and nothing in it is run. So it is with safetensors.

    Raises:
        UsageError: the file is missing, unreadable, no checkpoint, holds code, holds something
            other than tensors, or holds NaN or infinite weights.
    """
    content = _load(path)
    if isinstance(content, Mapping):
        for key in STATE_KEYS:
            if isinstance(content.get(key), Mapping):
                content = content[key]
                break
    if not isinstance(content, Mapping) or not content:
        raise UsageError(
            f"{path} holds no weights: a mapping of names to tensors is expected, bare or below "
            f"{' or '.join(STATE_KEYS)}",
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
    state = _without_prefix(content)
    _refuse_not_finite(state, path)
    return state


def fit(module: torch.nn.Module, state: State, path: str) -> None:
    """Copy ``state`` into ``module``; every key must be there, and no other.

    Raises:
        UsageError: lists the keys that are missing, extra or of another shape or type.
    """
    own = _tensors(module)
    problems = [f"missing: {key} {list(own[key].shape)}" for key in own if key not in state]
    problems += [f"extra: {key} {list(state[key].shape)}" for key in state if key not in own]
    for key in own:
        if key not in state:
            continue
        if own[key].shape != state[key].shape:
            problems.append(f"shape: {key} is {list(state[key].shape)}, not {list(own[key].shape)}")
        elif own[key].is_floating_point() != state[key].is_floating_point():
            problems.append(f"type: {key} is {state[key].dtype}, not {own[key].dtype}")
    if problems:
        raise UsageError(
            f"{path} does not fit this model, which has {len(own)} keys:\n" + listing(problems),
            _prefix_mend(own, state)
            or "give the checkpoint of this very model with --weights FILE, or --weights seeded",
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(state[key])
        lost = [key for key, value in own.items() if not torch.equal(value, state[key].to(value))]
    if lost:
        raise UsageError(
            f"{path} has several values for what is one tensor in this model:\n{listing(lost)}",
            "give the checkpoint of a model that shares these weights as yours does",
        )


def _prefix_mend(own: State, state: State) -> Optional[str]:
    """Return what to do where the keys differ by a prefix alone; None where that is not it."""
    for longer, shorter, do in ((state, own, "take '{}' off"), (own, state, "put '{}' before")):
        one = next(iter(shorter), "")
        for prefix in [key[: -len(one)] for key in longer if key.endswith("." + one)]:
            if sorted(longer) == sorted(prefix + key for key in shorter):
                return f"{do.format(prefix)} its keys, and save it again: torch.save(state, FILE)"
    return None


def state_sha256(module: torch.nn.Module) -> str:
    """Return the sha256 of the module's state: name, type, shape and bytes of each, by name."""
    digest = hashlib.sha256()
    for key, value in sorted(_tensors(module).items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        value = value.detach().cpu().contiguous()
        if value.dtype == torch.bfloat16:  # which numpy does not have; float32 holds each value
            value = value.float()
        digest.update(value.numpy().reshape(-1).view(np.uint8))
    return digest.hexdigest()


def _tensors(module: torch.nn.Module) -> State:
    """Return the tensors of the module's state; its extra state may be anything."""
    state = module.state_dict()
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def listing(lines: Sequence[str]) -> str:
    """Return the lines indented, those above the limit as a count."""
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
            # About pickle protocols and typed storage; what matters raises.
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
            "save the weights alone: torch.save(model.state_dict(), FILE)",
        ) from error
    except PermissionError as error:
        raise UsageError(f"weights {path} cannot be read: {error}", "check its rights") from error
    except Exception as error:  # a file of any other kind fails wherever the reader stumbles
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
        f"{path} is not a torch checkpoint, or is cut short ({reason})",
        "copy or download it again, or save it with torch.save(model.state_dict(), FILE)",
    )


def _without_prefix(state: Mapping[str, torch.Tensor]) -> State:
    prefixed = all(key.startswith(PARALLEL_PREFIX) for key in state)
    start = len(PARALLEL_PREFIX) if prefixed else 0
    return OrderedDict((key[start:], value) for key, value in state.items())


def _refuse_not_finite(state: State, path: str) -> None:
    spoilt: List[str] = [
        key
        for key, value in state.items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if spoilt:
        raise UsageError(
            f"{path} holds NaN or infinite weights:\n{listing(spoilt)}",
            "take a checkpoint from before the training diverged",
        )
