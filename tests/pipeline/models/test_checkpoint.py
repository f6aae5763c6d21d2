"""Weights files: what is taken, what is refused, and in which words."""

import argparse
import os
import pickle

import pytest
import torch
from torch import nn

from trtyard.pipeline.errors import UsageError
from trtyard.pipeline.models.checkpoint import MAXIMUM_LISTED, fit, read_state, state_sha256


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
def test_every_usual_form_of_a_checkpoint_is_taken(tmp_path, below, prefix, zipped):
    source, target = network(), network()
    state = {prefix + key: value for key, value in source.state_dict().items()}
    content = state if below is None else {below: state, "optimizer": {"lr": 0.1}, "iteration": 9}
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert state_sha256(source) != state_sha256(target)
    fit(target, read_state(str(path)), str(path))
    assert state_sha256(source) == state_sha256(target)


def test_a_prefix_on_some_keys_only_is_a_name(tmp_path):
    state = network().state_dict()
    state["module.0.weight"] = state.pop("0.weight")
    words = problems_of(state, tmp_path / "weights.pth")
    assert "missing: 0.weight [4, 3, 1, 1]" in words
    assert "extra: module.0.weight [4, 3, 1, 1]" in words


def test_half_precision_weights_are_taken(tmp_path):
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


def test_a_long_list_ends_in_a_count(tmp_path):
    state = {f"layer{index}": torch.zeros(1) for index in range(30)}
    words = problems_of(state, tmp_path / "weights.pth")
    assert words.count("\n") == MAXIMUM_LISTED + 1
    assert words.endswith(f"... and {30 + 9 - MAXIMUM_LISTED} more")


def test_nothing_is_changed_by_weights_that_do_not_fit(tmp_path):
    module = network()
    before = state_sha256(module)
    state = network().state_dict()
    del state["2.bias"]
    with pytest.raises(UsageError):
        fit(module, read_state(saved(state, tmp_path / "weights.pth")), "weights.pth")
    assert state_sha256(module) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path, value):
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
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    path, mark = tmp_path / "evil.pth", tmp_path / "mark"
    content = {"model": network().state_dict(), "extra": RunsCode(mark)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UsageError, match=r"refused: loading it would run code \((posix|os)\.mkdir"):
        read_state(str(path))
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the trap works
    assert mark.exists()


def test_a_bare_pickle_with_code_is_refused_and_not_run(tmp_path):
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


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    whole = tmp_path / "whole.pth"
    torch.save(network().state_dict(), whole)
    path = tmp_path / "file.pth"
    for content in (b"hello world", b"PK\x03\x04 no zip", whole.read_bytes()[:600], b"\0" * 99):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="not a torch checkpoint, or is cut short"):
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
def test_keys_that_differ_by_a_prefix_alone_are_said_to(tmp_path, longer_is_the_file):
    inner, outer = network(), nn.Sequential()
    outer.add_module("backbone", network())
    module, source = (inner, outer) if longer_is_the_file else (outer, inner)
    path = saved(source.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UsageError) as caught:
        fit(module, read_state(path), path)
    do = "take 'backbone.' off its keys" if longer_is_the_file else "put 'backbone.' before"
    assert do in caught.value.mend


def test_several_values_for_one_shared_tensor_are_refused(tmp_path):
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    path = saved(module.state_dict(), tmp_path / "weights.pth")
    module[1].weight = module[0].weight
    with pytest.raises(UsageError, match=r"several values for what is one tensor.*\n  0\.weight"):
        fit(module, read_state(path), path)
    shared = saved(module.state_dict(), tmp_path / "shared.pth")
    fit(module, read_state(shared), shared)


def test_no_refusal_repeats_how_to_load_the_file_unsafely(tmp_path):
    path = tmp_path / "file.pth"
    path.write_bytes(pickle.dumps(RunsCode(tmp_path / "mark")))
    with pytest.raises(UsageError) as caught:
        read_state(str(path))
    assert "a pickle that torch.save did not write" in caught.value.message
    assert "weights_only" not in caught.value.message


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_archive_of_code_is_called_one(tmp_path):
    path = str(tmp_path / "net.pt")
    torch.jit.save(torch.jit.script(network()), path)
    with pytest.raises(UsageError, match="is a TorchScript archive") as caught:
        read_state(path)
    assert f"torch.jit.load('{path}').state_dict()" in caught.value.mend
