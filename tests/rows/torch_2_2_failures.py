"""Fails in one of the ways that torch 2.2 has. Run by test_known_failures.py in row 8.6's Python.

Knows nothing of trtyard: what it prints is what anybody's terminal would show.
"""

import io
import sys

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens):
        return self.attention(tokens, tokens, tokens, need_weights=False)[0]


MODULES = {"Attention": (Attention, (torch.ones(1, 4, 8),))}

if __name__ == "__main__":
    name, opset, gradients = sys.argv[1:]
    made, inputs = MODULES[name]
    with torch.set_grad_enabled(gradients == "gradients"):
        torch.onnx.export(made().eval(), inputs, io.BytesIO(), opset_version=int(opset))
