"""Find the weights in a checkpoint, and their names without wrappers' prefixes.

Training scripts save only the weights, or the weights under a key next to optimizer and iteration,
or several sets: the last ones and their moving average. Wrappers add a prefix to every name.
"""

import re
from collections import OrderedDict
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import torch

from trtyard.core.errors import UsageError

State = Dict[str, torch.Tensor]

# Keys of moving averages, which these projects evaluate (BasicSR, timm, RT-DETR).
AVERAGE_KEYS = (
    "params_ema", "state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "model_state_ema",
    "ema",
)  # fmt: skip
# Keys of the weights of the last step.
STATE_KEYS = (
    "model", "state_dict", "model_state_dict", "net", "params", "model_state", "network", "weights",
    "module",
)  # fmt: skip
COUNT = "num_batches_tracked"  # of a batch norm; no output depends on it
_MOST_LISTED = 5

# Prefixes of every name: torch.nn.parallel's wrappers, torch.compile, Lightning and its templates.
_BEFORE_ALL = ("module.", "_orig_mod.", "model.", "net.")
# Prefixes of a wrapped submodule's names, at any depth: torch.compile and FSDP.
_ANYWHERE = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
_AVERAGED = "n_averaged"  # number of updates of torch.optim.swa_utils.AveragedModel
_DEEPEST = 2  # levels of keys that are searched; deeper ones hold an optimizer's tensors

Path = Tuple[str, ...]


class Found(NamedTuple):
    """The weights in a checkpoint: a mapping of names to tensors or other values."""

    content: Any
    note: Optional[str] = None  # which of several sets was chosen


def find_weights(content: Any, key: str, file: str) -> Found:
    """Return the weights in a checkpoint's content.

    Of several sets, the moving average is chosen if it has every name of the others.

    Args:
        content: the file's content.
        key: where to look, such as ``params`` or ``ema.module``, or a prefix of all names of one
            set. Empty: search.
        file: its name, for errors.

    Raises:
        UsageError: there is nothing at ``key``, or there are several sets under unknown keys.
    """
    if key:
        return Found(_at(content, key, file))
    sets = _sets_in(content, ())
    if () in sets or not isinstance(content, Mapping):
        return Found(content)
    ranked = [path for word in (*AVERAGE_KEYS, *STATE_KEYS) for path in sets if path[0] == word]
    if not ranked:
        known = [word for word in STATE_KEYS if isinstance(content.get(word), Mapping)]
        with_more = [word for word in known if content[word]]
        if with_more:
            return Found(content[with_more[0]])
        if len(sets) == 1 and not _is_bare(content):
            return Found(next(iter(sets.values())))
        if len(sets) < 2 or _is_bare(content):
            return Found(content[known[0]] if known else content)
    plain = next((path for path in ranked if path[0] in STATE_KEYS), None)
    if ranked and plain is not None and not _as_complete(sets[ranked[0]], sets[plain]):
        ranked = [path for path in ranked if path[0] in STATE_KEYS]
    if not ranked or len([path for path in ranked if path[0] == ranked[0][0]]) > 1:
        one = ".".join((ranked or list(sets))[0])
        raise UsageError(
            f"{file} holds several sets of weights: {_listed(list(sets))}",
            f"say which: --weights {file}#{one}",
        )
    taken = ranked[0]
    others = [path for path in sets if path != taken and _as_complete(sets[path], sets[taken])]
    if not others:
        return Found(sets[taken])
    other = ".".join(others[0])
    return Found(
        sets[taken],
        f"the weights are those at {'.'.join(taken)} in the checkpoint, which also has "
        f"{_listed(others)}: --weights FILE#{other} takes those",
    )


def plain_names(names: Iterable[str]) -> Dict[str, str]:
    """Return a mapping from the names without wrappers' prefixes to the names."""
    names = list(names)
    plain = OrderedDict((_ANYWHERE.sub("", name), name) for name in names)
    if len(plain) < len(names):
        return OrderedDict((name, name) for name in names)
    while True:
        inner = [name for name in plain if name != _AVERAGED]
        word = next((each for each in _BEFORE_ALL if _all_begin(inner, each)), "")
        if not word:
            return plain
        plain = OrderedDict((name[len(word) :], plain[name]) for name in inner)


def _all_begin(names: Sequence[str], word: str) -> bool:
    return bool(names) and all(name.startswith(word) and name != word for name in names)


def hint_for_prefix(own: Sequence[str], given: Sequence[str], file: str) -> Optional[str]:
    """Return a hint if the names differ only by a prefix, else None."""
    mine = [name for name in own if not name.endswith(COUNT)]
    for prefix in _prefixes(mine, given):
        if {prefix + name for name in mine} <= set(given):
            return f"take '{prefix}' off its keys: --weights {file}#{prefix[:-1]}"
    for prefix in _prefixes(given, mine):
        if sorted(own) == sorted(prefix + name for name in given):
            return f"put '{prefix}' before its keys, and save it again: torch.save(state, FILE)"
    return None


def _prefixes(shorter: Sequence[str], longer: Sequence[str]) -> List[str]:
    """Return the prefixes that the longer names add to the first of the shorter ones."""
    first = next(iter(shorter), "")
    return [name[: -len(first)] for name in longer if first and name.endswith("." + first)]


def _sets_in(content: Any, path: Path) -> Dict[Path, State]:
    """Return every mapping of names to only tensors, by the path of keys to it."""
    if not isinstance(content, Mapping) or not content:
        return {}
    if all(isinstance(name, str) for name in content) and all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        return {path: content}  # type: ignore[dict-item]
    if len(path) == _DEEPEST:
        return {}
    found: Dict[Path, State] = OrderedDict()
    for key, value in content.items():
        if isinstance(key, str):
            found.update(_sets_in(value, (*path, key)))
    return found


def _is_bare(content: Mapping[Any, Any]) -> bool:
    """Return whether ``content`` has tensors with names such as ``conv.weight``."""
    return any("." in str(key) for key, value in content.items() if torch.is_tensor(value))


def _as_complete(state: State, other: State) -> bool:
    """Return whether ``state`` has all names of ``other``, except for counts of batches."""
    return _weights_in(other) <= _weights_in(state)


def _weights_in(state: State) -> Set[str]:
    return {name for name in plain_names(state) if not name.endswith(COUNT)}


def _at(content: Any, key: str, file: str) -> Any:
    found = _below(content, key)
    if found is None:
        there = [".".join(path) for path in _sets_in(content, ()) if path]
        if not there and isinstance(content, Mapping):
            there = list(dict.fromkeys(str(name).split(".")[0] for name in content))
        raise UsageError(
            f"{file} has no weights at '{key}'; it has: {_listed([(name,) for name in there])}",
            f"--weights {file}" + (f"#{there[0]}" if there else ""),
        )
    return found


def _below(content: Any, key: str) -> Any:
    """Return the value at ``key``, or all values below it; None if there are none."""
    if not isinstance(content, Mapping):
        return None
    if isinstance(content.get(key), Mapping):
        return content[key]
    for end in [match.start() for match in re.finditer(r"\.", key)]:
        inner = _below(content.get(key[:end]), key[end + 1 :])
        if inner is not None:
            return inner
    start = key + "."
    inside = [name for name in content if isinstance(name, str) and name.startswith(start)]
    return OrderedDict((name[len(start) :], content[name]) for name in inside) or None


def _listed(paths: Sequence[Path]) -> str:
    shown = ", ".join(".".join(path) for path in paths[:_MOST_LISTED])
    return f"{shown}, ..." if len(paths) > _MOST_LISTED else shown or "none"
