"""Seeded numbers: the same on every machine, and of the right size."""

import numpy as np
import pytest
import torch
from PIL import Image

from trtyard.pipeline.models.registry import load_model
from trtyard.pipeline.models.seeding import Seed


def drawn_by_numpy(seed, count):
    """Return what the 32-bit Mersenne twister gives, as 24-bit fractions."""
    words = np.random.RandomState(seed).randint(0, 2**32, size=count, dtype=np.uint32)
    return (words & 0xFFFFFF).astype(np.float64) / 2**24


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_uniform_numbers_are_those_of_the_mersenne_twister(seed):
    expected = (drawn_by_numpy(seed, 1000) - 0.5) * np.sqrt(12) * 0.25
    actual = Seed(seed).uniform((10, 100), 0.25)
    np.testing.assert_allclose(actual.reshape(-1).numpy(), expected, rtol=1e-6, atol=1e-8)


def test_centered_weights_have_zero_sum_and_given_deviation():
    shape = (64, 50, 3, 3)
    drawn = drawn_by_numpy(7, 64 * 450).reshape(64, 450)
    expected = (drawn - drawn.mean(axis=1, keepdims=True)) * np.sqrt(12) * 1.5 / np.sqrt(450)
    weights = Seed(7).weights(shape, gain=1.5, centered=True)
    assert tuple(weights.shape) == shape
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights.reshape(64, 450).numpy(), expected, rtol=1e-5, atol=1e-7)
    assert weights.reshape(64, -1).sum(1).abs().max() < 1e-5
    assert float(weights.std()) * 450**0.5 == pytest.approx(1.5, rel=0.02)


def test_centered_weights_do_not_depend_on_block_size():
    rows, columns = 3, 300_000  # more than one block a row
    drawn = drawn_by_numpy(3, rows * columns).reshape(rows, columns)
    expected = (drawn - drawn.mean(axis=1, keepdims=True)) * np.sqrt(12 / columns)
    weights = Seed(3).weights((rows, columns), gain=1.0, centered=True)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("shape", [(64, 50, 3, 3), (500, 1)])
def test_weights_have_the_stated_deviation(shape):
    fan_in = int(np.prod(shape[1:]))
    drawn = drawn_by_numpy(7, shape[0] * fan_in).reshape(shape)
    weights = Seed(7).weights(shape)
    np.testing.assert_allclose(
        weights.numpy(), (drawn - 0.5) * np.sqrt(12 * 2 / fan_in), rtol=1e-5, atol=1e-7
    )
    assert float(weights.std()) * fan_in**0.5 == pytest.approx(2**0.5, rel=0.05)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        "lraspp_mobilenet_v3_large",
        pytest.param("ssd300_vgg16", marks=pytest.mark.slow),
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "faster_rcnn",
    ],
)
def test_seeded_weights_do_not_depend_on_the_picture(name, tmp_path):
    noise = np.random.RandomState(0).randint(0, 256, (48, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    without = load_model(name, size=96)
    given = load_model(name, size=96, image=tmp_path / "noise.png")
    assert not torch.equal(without.inputs[0], given.inputs[0])
    assert given.weights == without.weights
