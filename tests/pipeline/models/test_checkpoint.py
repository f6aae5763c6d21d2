"""Weights files: what is taken, what is refused, and in which words."""

import argparse
import os
import pickle

import pytest
import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.checkpoint import (
    MAXIMUM_LISTED,
    fit,
    read_checkpoint,
    read_state,
    state_sha256,
)


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def saved(content, path):
    torch.save(content, path)
    return str(path)


def problems_of(state, path):
    with pytest.raises(UsageError) as caught:
        fit(network(), read_state(saved(state, path)), str(path))
    return caught.value.message


@pytest.mark.parametrize("below", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_every_common_checkpoint_form_loads(tmp_path, below, prefix, zipped):
    source, target = network(), network()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    content = state if below is None else {below: state, "optimizer": {"lr": 0.1}, "iteration": 9}
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert state_sha256(source) != state_sha256(target)
    fit(target, read_state(str(path)), str(path))
    assert state_sha256(source) == state_sha256(target)


def test_partial_prefix_is_part_of_the_name(tmp_path):
    state = network().state_dict()
    state["module.0.weight"] = state.pop("0.weight")
    words = problems_of(state, tmp_path / "weights.pth")
    assert "missing: 0.weight [4, 3, 1, 1]" in words
    assert "extra: module.0.weight [4, 3, 1, 1]" in words


def test_half_precision_weights_load(tmp_path):
    source = network()
    state = {
        key: value.half() if value.is_floating_point() else value
        for key, value in source.state_dict().items()
    }
    target = network()
    fit(target, read_state(saved(state, tmp_path / "half.pth")), "half.pth")
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, source[0].weight.half().float())


def test_every_key_that_does_not_fit_is_listed(tmp_path):
    state = network().state_dict()
    del state["0.bias"]
    state["9.weight"] = torch.zeros(1)
    state["2.weight"] = torch.zeros(2, 5, 1, 1)
    state["1.num_batches_tracked"] = torch.tensor(1.0)
    words = problems_of(state, tmp_path / "weights.pth")
    assert "which has 9 keys:" in words
    assert "missing: 0.bias [4]" in words
    assert "extra: 9.weight [1]" in words
    assert "shape: 2.weight is [2, 5, 1, 1], not [2, 4, 1, 1]" in words
    assert "type: 1.num_batches_tracked is torch.float32, not torch.int64" in words


def test_long_list_ends_with_a_count(tmp_path):
    state = {f"layer{index}": torch.zeros(1) for index in range(30)}
    words = problems_of(state, tmp_path / "weights.pth")
    assert words.count("\n") == MAXIMUM_LISTED + 1
    assert words.endswith(f"... and {30 + 9 - MAXIMUM_LISTED} more")


def test_mismatched_weights_change_nothing(tmp_path):
    module = network()
    before = state_sha256(module)
    state = network().state_dict()
    del state["2.bias"]
    with pytest.raises(UsageError):
        fit(module, read_state(saved(state, tmp_path / "weights.pth")), "weights.pth")
    assert state_sha256(module) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_nan_weights_are_named(tmp_path, value):
    state = network().state_dict()
    state["2.weight"][0, 1] = value
    with pytest.raises(UsageError, match=r"NaN or infinite weights:\n  2\.weight\n  take"):
        read_state(saved(state, tmp_path / "weights.pth"))


class RunsCode:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_with_code_is_refused(tmp_path, zipped):
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    content = {"model": network().state_dict(), "extra": RunsCode(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r"refused: loading it would run code \((posix|os)\.mkdir"):
        read_state(str(path))
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the trap works
    assert mark.exists()


def test_bare_pickle_with_code_is_refused(tmp_path):
    path, mark = tmp_path / "evil.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(RunsCode(mark)))
    with pytest.raises(UsageError):
        read_state(str(path))
    assert not mark.exists()


def test_objects_other_than_tensors_are_refused(tmp_path):
    settings = saved({"model": {}, "args": argparse.Namespace(a=1)}, tmp_path / "settings.pth")
    with pytest.raises(UsageError, match=r"would run code \(argparse.Namespace\)"):
        read_state(settings)
    state = dict(network().state_dict(), epoch=3)
    with pytest.raises(UsageError, match="more than tensors among its weights:\n  epoch: int"):
        read_state(saved(state, tmp_path / "epoch.pth"))
    for content in ({}, [torch.zeros(1)], torch.zeros(1), {"model": {}}):
        with pytest.raises(UsageError, match="holds no weights"):
            read_state(saved(content, tmp_path / "none.pth"))


def test_other_files_are_refused(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save(network().state_dict(), whole)
    path = tmp_path / "file.pth"
    for content in (b"hello world", b"PK\x03\x04 no zip", whole.read_bytes()[:600], b"\0" * 99):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="not a torch checkpoint, or is truncated"):
            read_state(str(path))
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="file is empty"):
        read_state(str(path))
    with pytest.raises(UsageError, match="no such file"):
        read_state(str(tmp_path / "none.pth"))
    with pytest.raises(UsageError, match="is a folder"):
        read_state(str(tmp_path))


def test_the_hash_of_a_state_changes_with_each_of_its_parts():
    module = network()
    hashes = {state_sha256(module)}
    with torch.no_grad():
        module[0].weight[1, 2, 0, 0] += 1e-6
        hashes.add(state_sha256(module))
        module[1].num_batches_tracked += 1
        hashes.add(state_sha256(module))
        module[0].bias.copy_(module[0].bias.flip(0))
        hashes.add(state_sha256(module))
    hashes.add(state_sha256(nn.Sequential(module)))  # other names
    assert len(hashes) == 5


@pytest.mark.parametrize("longer_is_the_file", [True, False])
def test_prefix_difference_is_reported(tmp_path, longer_is_the_file):
    inner, outer = network(), nn.Sequential()
    outer.add_module("backbone", network())
    module, source = (inner, outer) if longer_is_the_file else (outer, inner)
    path = saved(source.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UsageError) as caught:
        fit(module, read_state(path), path)
    do = "take 'backbone.' off its keys" if longer_is_the_file else "put 'backbone.' before"
    assert do in caught.value.hint


def test_several_values_for_one_shared_tensor_are_refused(tmp_path):
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    path = saved(module.state_dict(), tmp_path / "weights.pth")
    module[1].weight = module[0].weight
    with pytest.raises(UsageError, match=r"different values for one tensor.*\n  0\.weight"):
        fit(module, read_state(path), path)
    shared = saved(module.state_dict(), tmp_path / "shared.pth")
    fit(module, read_state(shared), shared)


def test_errors_do_not_advise_unsafe_loading(tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(pickle.dumps(RunsCode(tmp_path / "mark")))
    with pytest.raises(UsageError) as caught:
        read_state(str(path))
    assert "a pickle that torch.save did not write" in caught.value.message
    assert "weights_only" not in caught.value.message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_archive_is_named(tmp_path):
    path = str(tmp_path / "net.pt")
    torch.jit.save(torch.jit.script(network()), path)
    with pytest.raises(UsageError, match="is a TorchScript archive") as caught:
        read_state(path)
    assert f"torch.jit.load('{path}').state_dict()" in caught.value.hint


def given(content, path, key="", module=None):
    """Return a network that was fitted with the file's weights, and the notes on them."""
    module = network() if module is None else module
    state, notes = read_checkpoint(saved(content, path), key)
    fit(module, state, str(path))
    return module, notes


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model._orig_mod."]
)
def test_wrapper_prefix_is_removed(tmp_path, prefix):
    source = network()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    module, notes = given({"state_dict": state}, tmp_path / "wrapped.pth")
    assert state_sha256(module) == state_sha256(source)
    assert notes == ()


def test_compiled_submodules_load_by_their_names(tmp_path):
    source = network()
    state = {
        key.replace("1.", "1._orig_mod.", 1): value for key, value in source.state_dict().items()
    }
    module, _ = given(state, tmp_path / "compiled.pth")
    assert state_sha256(module) == state_sha256(source)


@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
@pytest.mark.parametrize("attribute", ["model", "module", "net"])
def test_module_with_wrapper_like_names_loads(tmp_path, attribute, prefix):
    source, module = network(), nn.Sequential()
    module.add_module(attribute, network())
    state = {prefix + key: value for key, value in source.state_dict().items()}
    given(state, tmp_path / "weights.pth", module=module)
    assert state_sha256(module[0]) == state_sha256(source)


@pytest.mark.parametrize(
    "key", ["model_state", "params", "params_ema", "network", "weights", "generator"]
)
def test_only_set_of_weights_is_found_under_any_key(tmp_path, key):
    source = network()
    optimizer = {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}
    content = {key: source.state_dict(), "optimizer": optimizer, "loss": torch.zeros(()), "args": 1}
    module, notes = given(content, tmp_path / "weights.pth")
    assert state_sha256(module) == state_sha256(source)
    assert notes == ()


@pytest.mark.parametrize(
    ("average", "last"),
    [
        ("params_ema", "params"),
        ("state_dict_ema", "state_dict"),
        ("model_ema", "model"),
        ("ema.module", "model"),
    ],
)
def test_averaged_weights_are_preferred_and_reported(tmp_path, average, last):
    smooth, final = network(), network()
    state = smooth.state_dict()
    first, _, second = average.partition(".")
    content = {last: final.state_dict(), first: {second: state, "updates": 9} if second else state}
    path = tmp_path / "weights.pth"
    module, notes = given(content, path)
    assert state_sha256(module) == state_sha256(smooth)
    assert f"those at {average} in" in notes[0]
    assert f"--weights FILE#{last} takes those" in notes[0]
    for key, expected in ((average, smooth), (last, final)):
        module, notes = given(content, path, key)
        assert state_sha256(module) == state_sha256(expected)
        assert notes == ()


def test_partial_average_is_ignored(tmp_path):
    final = network()
    average = {key: value for key, value in final.state_dict().items() if "running" not in key}
    module, _ = given({"model": final.state_dict(), "ema": average}, tmp_path / "weights.pth")
    assert state_sha256(module) == state_sha256(final)


def test_torch_averaged_model_loads(tmp_path):
    averaged = torch.optim.swa_utils.AveragedModel(network())
    module, notes = given({"model_ema": averaged.state_dict()}, tmp_path / "weights.pth")
    assert state_sha256(module) == state_sha256(averaged.module)
    assert notes == ()


def test_several_sets_of_unknown_keys_are_named(tmp_path):
    first, second = network(), network()
    content = {"student": first.state_dict(), "teacher": second.state_dict()}
    path = tmp_path / "weights.pth"
    with pytest.raises(UsageError, match="several sets of weights: student, teacher") as caught:
        given(content, path)
    assert f"--weights {path}#student" in caught.value.hint
    module, _ = given(content, path, "teacher")
    assert state_sha256(module) == state_sha256(second)


def test_missing_key_error_lists_existing_keys(tmp_path):
    path, state = tmp_path / "weights.pth", network().state_dict()
    with pytest.raises(UsageError, match="no weights at 'param'; it has: params_ema, params"):
        given({"params_ema": state, "params": state}, path, "param")
    with pytest.raises(UsageError, match="no weights at 'model'; it has: 0, 1, 2"):
        given(state, path, "model")


def test_weights_are_selected_by_prefix(tmp_path):
    source, path = network(), tmp_path / "lightning.ckpt"
    state = {"model." + key: value for key, value in source.state_dict().items()}
    state["criterion.weight"] = torch.ones(2)
    with pytest.raises(UsageError, match="does not fit") as caught:
        given({"state_dict": state}, path)
    assert f"--weights {path}#model" in caught.value.hint
    module, _ = given(state, path, "model")
    assert state_sha256(module) == state_sha256(source)
    module, _ = given({"state_dict": state}, path, "state_dict.model")
    assert state_sha256(module) == state_sha256(source)


def test_batch_counts_are_optional(tmp_path):
    source = network()
    state = source.state_dict()
    without = {key: value for key, value in state.items() if "num_batches" not in key}
    halves = {key: value.half() for key, value in state.items()}
    for content in (without, halves):
        module, _ = given(content, tmp_path / "weights.pth")
        torch.testing.assert_close(module[0].weight, source[0].weight, rtol=1e-3, atol=1e-3)
    frozen = nn.Sequential(FrozenBatchNorm2d(4))
    given(nn.Sequential(nn.BatchNorm2d(4)).state_dict(), tmp_path / "weights.pth", module=frozen)


class Tied(nn.Module):
    """Two names for one tensor."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("name", ["embedding.weight", "head.weight"])
def test_one_name_of_a_shared_tensor_is_enough(tmp_path, name):
    source, module = Tied(), Tied()
    given({name: source.head.weight.detach()}, tmp_path / "tied.pth", module=module)
    assert torch.equal(module.head.weight, source.head.weight)
    assert module.head.weight is module.embedding.weight
    apart = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    with pytest.raises(UsageError, match=r"missing: 1\.weight"):
        given({"0.weight": torch.ones(2, 2)}, tmp_path / "apart.pth", module=apart)


@pytest.mark.parametrize("value", [-1e-9, -1.0])
def test_a_variance_below_zero_is_named(tmp_path, value):
    state = network().state_dict()
    state["1.running_var"][2] = value
    with pytest.raises(UsageError, match=r"compute NaN:\n  1\.running_var: 1 of 4 .*1e-05"):
        given(state, tmp_path / "weights.pth")


def test_zero_variance_without_epsilon_is_named(tmp_path):
    state = network().state_dict()
    state["1.running_var"].zero_()
    given(state, tmp_path / "weights.pth")  # a channel that is the same everywhere has none
    module = network()
    module[1].eps = 0.0
    with pytest.raises(UsageError, match=r"1\.running_var: 4 of 4 .*epsilon 0"):
        given(state, tmp_path / "weights.pth", module=module)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("made", ["script", "trace"])
def test_torchscript_weights_are_checked(made, tmp_path):
    image = torch.ones(1, 3, 2, 2)
    source, net = network().eval(), network().eval()
    module = torch.jit.script(net) if made == "script" else torch.jit.trace(net, image)
    state = source.state_dict()
    state["1.running_var"].zero_()
    given(state, tmp_path / "weights.pth", module=module)
    torch.testing.assert_close(module(image), source(image))
    state["1.running_var"][0] = -1.0
    with pytest.raises(UsageError, match=r"1\.running_var: 1 of 4"):
        given(state, tmp_path / "weights.pth", module=module)


def test_infinite_mask_is_not_a_bad_weight(tmp_path):
    mask = torch.full((3, 3), float("-inf")).triu(1)
    module, source = nn.Sequential(), nn.Sequential()
    module.register_buffer("mask", torch.zeros(3, 3))
    source.register_buffer("mask", mask)
    given(source.state_dict(), tmp_path / "weights.pth", module=module)
    assert torch.equal(module.mask, mask)


def test_options_in_a_checkpoint_get_a_hint(tmp_path):
    path = saved({"model": {}, "args": argparse.Namespace(a=1)}, tmp_path / "detr.pth")
    with pytest.raises(UsageError, match=r"argparse\.Namespace") as caught:
        read_state(path)
    assert "add_safe_globals([argparse.Namespace])" in caught.value.hint
