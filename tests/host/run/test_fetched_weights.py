"""``--weights pretrained``: the row names the address, the host gets the file."""

import json
from pathlib import Path

import pytest

from trtyard.core.errors import UsageError
from trtyard.core.request import ConversionRequest
from trtyard.run import fetched_weights
from trtyard.run.convert import job_of
from trtyard.run.fetched_weights import with_weights

SHA256 = "0123456789abcdef" * 4
ADDRESS = "https://example.org/models/resnet18-01234567.pth"


def job(weights, model="resnet18", **options):
    return job_of(ConversionRequest(model=model, weights=weights, **options))


@pytest.fixture
def got(monkeypatch):
    files = []

    def have(file, _mirrors):
        files.append(file)
        return Path("/cache") / file.name

    monkeypatch.setattr(fetched_weights, "have_weights", have)
    return files


def in_row(address):
    def run(words):
        assert words == ("published-weights", "--model", "resnet18")
        return "a warning\n" + json.dumps({"address": address, "torchvision": "0.5.0"}) + "\n"

    return run


def test_pretrained_is_replaced_by_the_file(got, tmp_path):
    asked = job("pretrained", out=str(tmp_path))
    assert asked.weights is None
    found = with_weights(asked, in_row(ADDRESS))
    (file,) = got
    assert (file.address, file.sha256) == (ADDRESS, "01234567")
    assert found.placed().weights == "/cache/resnet18-01234567.pth"
    assert found.request.weights == "pretrained"
    words = found.arguments("docker", "row.json", lambda path: f"/mnt/{path.name}")
    assert words[words.index("--weights-address") + 1] == ADDRESS
    index = words.index("--shown-as")
    assert words[index + 1 : index + 3] == ["/mnt/resnet18-01234567.pth", "pretrained"]
    assert Path("/cache/resnet18-01234567.pth") in found.inputs()


def test_an_address_needs_no_row(got, tmp_path):
    typed = f"https://example.org/net.pth#sha256={SHA256}"
    asked = job(f"{typed}#params_ema", out=str(tmp_path))
    found = with_weights(asked, in_row(None))
    assert found.placed().weights == f"/cache/{SHA256}-net.pth#params_ema"
    words = found.arguments("host", "row.json")
    assert words[words.index("--shown-as") + 2] == typed


def test_a_signature_in_the_address_is_not_passed_on(got, tmp_path):
    query = "raw=1&sv=2024-01&sig=c2VjcmV0L3NpZ25hdHVyZQ=="
    typed = f"https://example.org/net.pth?{query}#sha256={SHA256}"
    found = with_weights(job(typed, out=str(tmp_path)), in_row(None))
    assert got[0].address.endswith(query)
    words = found.arguments("host", "row.json")
    shown = "https://example.org/net.pth?raw=1&sv=2024-01&sig=***"
    assert words[words.index("--weights-address") + 1] == shown
    assert words[words.index("--shown-as") + 2] == f"{shown}#sha256={SHA256}"
    written = "".join(each.read_text() for each in tmp_path.rglob("*.json"))
    assert "c2VjcmV0" not in " ".join(words) + written


def test_other_weights_get_nothing(got, tmp_path):
    asked = job("seeded:3", out=str(tmp_path))
    assert with_weights(asked, in_row(ADDRESS)) is asked
    assert got == []


def test_a_model_without_published_weights_is_refused(got):
    words = r"torchvision 0\.5\.0 of row .* publishes no weights of resnet18"
    with pytest.raises(UsageError, match=words) as caught:
        with_weights(job("pretrained"), in_row(None))
    assert "--model resnet18 --weights FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("faster_rcnn", "e2e_faster_rcnn_R_50_C4_1x of maskrcnn-benchmark: --weights FILE"),
        ("nets:make", "give your model's weights: --weights FILE"),
    ],
)
def test_pretrained_is_for_torchvisions_models(model, hint):
    with pytest.raises(UsageError, match="pretrained is for torchvision's models") as caught:
        job("pretrained", model, input="1x3x8x8")
    assert hint in caught.value.hint


def test_an_address_without_a_hash_is_refused_at_once():
    with pytest.raises(UsageError, match="the sha256 of the file is missing"):
        job("https://example.org/net.pth")
