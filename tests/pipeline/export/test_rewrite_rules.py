"""The optimizer's slow rule: fewer attempts, and the same file."""

import pytest
import torch
from onnxscript import rewriter

from trtyard.pipeline.export import dynamo
from trtyard.pipeline.export.exporter import export_model
from trtyard.pipeline.export.rewrite_rules import rules_tried_at_their_op


class Slices(torch.nn.Module):
    def forward(self, x):
        y = (x * 2).relu() + 1
        return y[:, :3] + y[:, 5:]


def exported():
    return export_model(Slices(), [torch.ones(2, 8)], ["x"], ["y"], "dynamo", 18)[0]


@pytest.fixture
def rule():
    (found,) = [
        each
        for each in rewriter._DEFAULT_REWRITE_RULES
        if not each._target_pattern.has_single_output_node
    ]
    return found


def test_file_is_the_one_of_all_attempts(monkeypatch):
    found = exported().SerializeToString()
    monkeypatch.setattr(dynamo, "rules_tried_at_their_op", torch.no_grad)
    assert exported().SerializeToString() == found


def test_rule_is_tried_only_at_slices(rule, monkeypatch):
    at = []
    match = type(rule._matcher).match

    def seen(self, model, graph, node, **options):
        if self is rule._matcher:
            at.append(node.op_type)
        return match(self, model, graph, node, **options)

    monkeypatch.setattr(type(rule._matcher), "match", seen)
    exported()
    assert set(at) == {"Slice"}


def test_rules_are_restored(rule):
    with rules_tried_at_their_op():
        assert "match" in vars(rule._matcher)
    assert "match" not in vars(rule._matcher)


def test_another_onnxscript_needs_no_such_rules(monkeypatch):
    monkeypatch.delattr(rewriter, "_DEFAULT_REWRITE_RULES")
    with rules_tried_at_their_op():
        pass
