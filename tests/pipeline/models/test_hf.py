"""Short form hf:FOLDER, with a package of the test's own: the rows do not have transformers."""

import json
import sys
from pathlib import Path

import pytest
import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models.registry import load_model

PACKAGE = """
import json
from pathlib import Path

import torch
from torch import nn

__version__ = "5.0"


class Config:
    def __init__(self, facts):
        self.__dict__.update(facts)


class AutoConfig:
    @staticmethod
    def from_pretrained(folder, local_files_only, trust_remote_code):
        assert local_files_only and not trust_remote_code
        return Config(json.loads(Path(folder, "config.json").read_text()))


class Base(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.rand(4))

    @classmethod
    def from_pretrained(cls, folder, config, local_files_only, torch_dtype, output_loading_info):
        assert local_files_only and torch_dtype == torch.float32 and output_loading_info
        made = cls(config)
        with torch.no_grad():
            made.weight.fill_(len(Path(folder, "model.safetensors").read_bytes()))
        return made, {"missing_keys": set(getattr(config, "missing", []))}


class Words(Base):
    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None):
        assert not self.config.use_cache
        shown = (input_ids * attention_mask)[..., None] * self.weight
        return {"logits": shown.sum(1), "past": None}


class Translator(Base):
    def forward(self, input_ids, attention_mask=None, decoder_input_ids=None):
        return (input_ids * attention_mask).float() + decoder_input_ids * self.weight[0]


class Pictures(Base):
    def forward(self, pixel_values):
        return pixel_values.mean([2, 3]) * self.weight[0]


class Sounds(Base):
    def forward(self, input_features):
        return input_features * self.weight[0]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a function that writes a model's folder and returns its spec."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "transformers.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(code))
    monkeypatch.delitem(sys.modules, "transformers", raising=False)

    def write(*architectures, **facts):
        place = tmp_path / "model"
        place.mkdir(exist_ok=True)
        content = dict(facts, architectures=list(architectures))
        (place / "config.json").write_text(json.dumps(content))
        return f"hf:{place}"

    yield write
    sys.modules.pop("transformers", None)


def shapes(model):
    return {name: tuple(each.shape) for name, each in zip(model.input_names, model.inputs)}


def test_words_get_ids_below_the_vocabulary_and_a_mask(folder):
    model = load_model(folder("Words", vocab_size=50))
    assert shapes(model) == {"input_ids": (1, 16), "attention_mask": (1, 16)}
    assert int(model.inputs[0].max()) < 50
    assert set(model.inputs[1].unique().tolist()) <= {0, 1}
    assert model.output_names == ("logits",)
    assert model.weights.source == "the model's own, torch seed 0"


def test_pictures_have_the_configs_size(folder):
    model = load_model(folder("Pictures", image_size=32, num_channels=1))
    assert shapes(model) == {"pixel_values": (1, 1, 32, 32)}
    model = load_model(folder("Pictures", vision_config=None, image_size=[24, 48]))
    assert shapes(model) == {"pixel_values": (1, 3, 24, 48)}


def test_translators_get_the_decoders_words_too(folder):
    model = load_model(folder("Translator", vocab_size=9, is_encoder_decoder=True))
    assert list(shapes(model)) == ["input_ids", "attention_mask", "decoder_input_ids"]


def test_input_overrides_the_usual_shapes(folder):
    spec = folder("Words", vocab_size=50)
    asked = "input_ids=1..4x8:int64:50,attention_mask=1..4x8:int64"
    model = load_model(spec, input_shape=asked)
    assert model.inputs[0].shape[1] == 8
    assert model.dynamic is not None


def test_weights_file_in_the_folder_is_used(folder, tmp_path):
    spec = folder("Words", vocab_size=50)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"seven b")
    model = load_model(spec)
    assert model.weights.source == str(tmp_path / "model" / "model.safetensors")
    assert len(model.weights.sha256) == 64
    assert model.module.module.weight.tolist() == [7] * 4


def test_weights_that_the_file_lacks_are_not_made_up(folder, tmp_path):
    spec = folder("Words", vocab_size=50, missing=["head.weight", "head.bias"])
    load_model(spec)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"seven b")
    with pytest.raises(UsageError, match=r"lack 2 of Words: head\.bias, head\.weight"):
        load_model(spec)


class Code:
    def __reduce__(self):
        return Path.touch, (Path("run"),)


def test_code_in_a_weights_file_is_refused(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spec = folder("Words", vocab_size=50)
    file = tmp_path / "model" / "pytorch_model.bin"
    torch.save({"weight": Code()}, file)
    with pytest.raises(
        UsageError, match=r"pytorch_model\.bin is refused: loading it would run code"
    ):
        load_model(spec)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("architectures", "facts", "message"),
    [
        ([], {}, "names no class in 'architectures'"),
        (["Unknown"], {}, "transformers 5.0 has no class Unknown"),
        (["Unknown"], {"auto_map": {"AutoModel": "m.X"}}, "own code, which is never run"),
        (["Sounds"], {}, "the inputs of Sounds are not known: input_features"),
    ],
)
def test_folder_that_cannot_be_used_is_refused(folder, architectures, facts, message):
    with pytest.raises(UsageError, match=message):
        load_model(folder(*architectures, **facts))


def test_broken_config_is_named(folder, tmp_path):
    spec = folder("Words")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"transformers cannot read config\.json: JSONDecodeError"):
        load_model(spec)
