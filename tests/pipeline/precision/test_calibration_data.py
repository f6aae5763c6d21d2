"""What --calibrate takes, and what it refuses by name."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_nets import own_model

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.picture import fitted
from trtyard.pipeline.precision.calibration_data import read_calibration_data

RANDOM = np.random.RandomState(0)


def refusal(place, model=None):
    with pytest.raises(UsageError) as refused:
        read_calibration_data(str(place), model or own_model())
    return str(refused.value)


def arrays(tmp_path, **values):
    np.savez(tmp_path / "data.npz", **values)
    return tmp_path / "data.npz"


def test_every_second_sample_is_held_out(tmp_path):
    values = RANDOM.randn(9, 3, 8, 8).astype("f")
    data = read_calibration_data(str(arrays(tmp_path, x=values)), own_model())
    assert len(data.samples) == 5
    assert len(data.held_out) == 4
    np.testing.assert_array_equal(data.samples[1]["x"], values[2:3])
    np.testing.assert_array_equal(data.held_out[0]["x"], values[1:2])


def test_a_lone_array_needs_no_name_and_npy_none_at_all(tmp_path):
    values = RANDOM.randn(8, 3, 8, 8).astype("f")
    np.save(tmp_path / "data.npy", values)
    first = read_calibration_data(str(tmp_path / "data.npy"), own_model())
    second = read_calibration_data(str(arrays(tmp_path, images=values)), own_model())
    assert first.sha256 == second.sha256
    assert list(second.samples[0]) == ["x"]


def test_samples_fill_the_models_batch(tmp_path):
    model = own_model(inputs=(torch.zeros(2, 3, 8, 8),))
    values = RANDOM.randn(17, 3, 8, 8).astype("f")
    data = read_calibration_data(str(arrays(tmp_path, x=values)), model)
    assert data.samples[0]["x"].shape == (2, 3, 8, 8)
    assert len(data.samples) + len(data.held_out) == 8
    whole = RANDOM.randn(8, 2, 3, 8, 8).astype("f")
    data = read_calibration_data(str(arrays(tmp_path, x=whole)), model)
    np.testing.assert_array_equal(data.samples[0]["x"], whole[0])


def test_every_input_needs_its_array(tmp_path):
    model = own_model(
        names=("ids", "mask"),
        inputs=(torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 4)),
    )
    ids, mask = np.zeros((8, 4), np.int64), np.ones((8, 4), np.float32)
    data = read_calibration_data(str(arrays(tmp_path, ids=ids, mask=mask)), model)
    assert sorted(data.samples[0]) == ["ids", "mask"]
    assert "has the arrays ids" in refusal(arrays(tmp_path, ids=ids), model)
    said = refusal(arrays(tmp_path, ids=ids, mask=mask[:7]), model)
    assert "different numbers of samples: 8 of ids, 7 of mask" in said
    np.save(tmp_path / "one.npy", mask)
    assert "has the inputs ids, mask" in refusal(tmp_path / "one.npy", model)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.zeros((7, 3, 8, 8), np.float32), "7 samples; at least 8 are needed"),
        (np.zeros((8, 3, 8, 9), np.float32), "the model takes [1, 3, 8, 8]"),
        (np.zeros((8, 3, 8, 8), np.int64), "x is int64, the model takes float32"),
        (np.full((8, 3, 8, 8), np.nan, np.float32), "NaN or infinite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, values, said):
    assert said in refusal(arrays(tmp_path, x=values))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"text"])
@pytest.mark.parametrize("ending", ["npz", "npy"])
def test_a_damaged_file_is_refused(tmp_path, content, ending):
    file = tmp_path / f"data.{ending}"
    file.write_bytes(content)
    assert "cannot be read" in refusal(file)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "data.txt").write_text("")
    assert "neither a folder of pictures nor" in refusal(tmp_path / "data.txt")
    assert "neither a folder of pictures nor" in refusal(tmp_path / "none.npz")


def prepare(rgb):
    return torch.from_numpy(fitted(rgb, (8, 8)).transpose(2, 0, 1)[None] / 255.0).float()


def write_pictures(folder, number):
    for index in range(number):
        pixels = RANDOM.randint(0, 255, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(str(folder / f"{index}.png"))


def test_pictures_are_prepared_as_the_family_does(tmp_path):
    write_pictures(tmp_path, 8)
    (tmp_path / "notes.txt").write_text("no picture")
    data = read_calibration_data(str(tmp_path), own_model(prepare=prepare))
    assert len(data.samples) + len(data.held_out) == 8
    assert data.samples[0]["x"].shape == (1, 3, 8, 8)


def test_pictures_that_cannot_be_read_are_named(tmp_path):
    write_pictures(tmp_path, 8)
    (tmp_path / "3.png").write_bytes(b"no picture")
    said = refusal(tmp_path, own_model(prepare=prepare))
    assert "1 of 8 pictures cannot be read" in said
    assert "3.png is not a picture" in said


def test_an_empty_folder_has_too_few(tmp_path):
    assert "0 samples" in refusal(tmp_path, own_model(prepare=prepare))


def test_pictures_for_a_model_of_ones_own_are_refused(tmp_path):
    write_pictures(tmp_path, 8)
    said = refusal(tmp_path)
    assert "how nets.py:net prepares a picture is not known" in said
    assert "--calibrate FILE.npz" in said


def test_a_picture_is_fitted_from_its_middle():
    rgb = np.zeros((10, 30, 3), np.uint8)
    rgb[:, 10:20] = 200
    assert fitted(rgb, (4, 4)).shape == (4, 4, 3)
    for turned in (rgb, rgb.transpose(1, 0, 2)):
        assert (fitted(turned, (5, 5))[1:4, 1:4] == 200).all()
