"""One field of a request is the option, its help and the entry of request.json."""

import json

import pytest
from invoke.collection import Collection

from trtyard.cli.command import _Run, command
from trtyard.core.errors import UsageError
from trtyard.core.request import BenchRequest, ConversionRequest, _number, option
from trtyard.pipeline.cli import _parser


class WithDepth(ConversionRequest):
    """A request with one more field."""

    depth = option("How deep to go.", _number)


def test_new_field_becomes_an_option_and_an_entry(capsys):
    seen = []

    @command(record=WithDepth)
    def convert(**words):
        """Convert."""
        seen.append(WithDepth.from_words(words))

    tasks = Collection(convert)
    with pytest.raises(SystemExit):
        _Run(namespace=tasks).run(["run", "convert", "--help"])
    assert "--depth=STRING         How deep to go." in capsys.readouterr().out
    _Run(namespace=tasks).run(["run", "convert", "--depth", "3", "--in", "docker"], exit=False)
    assert seen == [WithDepth(depth=3, where="docker")]
    assert seen[0].to_json()["depth"] == 3


@pytest.mark.parametrize("kind", [ConversionRequest, BenchRequest])
def test_pipeline_request_has_every_pipeline_option(kind):
    words = [kind.task, "--row-file", "r", "--executor", "host", "--out", "o"]
    known = vars(_parser().parse_args(words))
    for name, one in kind.options().items():
        assert (name in known) is (not one.host_only or name == "out")


def test_bench_request_round_trips(tmp_path):
    asked = BenchRequest.from_words({"model": "alexnet", "batch": "1, 8", "runs": "30"})
    assert (asked.batch, asked.runs) == ("1,8", 30)
    file = tmp_path / "request.json"
    file.write_text(json.dumps(asked.to_json()))
    assert BenchRequest.read(file) == asked
    with pytest.raises(UsageError, match="unknown entry 'batch'"):
        ConversionRequest.read(file)


def test_request_round_trips(tmp_path):
    asked = ConversionRequest(model="a.py:make", size=320, norm_eps=0.0, weights="w.pth#ema")
    file = tmp_path / "request.json"
    file.write_text(json.dumps(asked.to_json()))
    assert ConversionRequest.read(file) == asked


def test_a_request_is_frozen():
    with pytest.raises(AttributeError):
        ConversionRequest().model = "alexnet"
    with pytest.raises(TypeError, match="no colour"):
        ConversionRequest(colour="alexnet")
    assert ConversionRequest().replaced(model="alexnet").given() == {"model": "alexnet"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not a request"),
        ("[]", "is not a request of schema 1"),
        ('{"schema": 2}', "is not a request of schema 1"),
        ('{"schema": 1, "colour": "a"}', "has an unknown entry 'colour'"),
        ('{"schema": 1, "size": "320"}', "size is '320', expected int"),
        ('{"schema": 1, "size": true}', "size is True, expected int"),
    ],
)
def test_invalid_request_file_is_refused(content, said, tmp_path):
    file = tmp_path / "request.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=said):
        ConversionRequest.read(file)


@pytest.mark.parametrize(
    ("name", "word", "said"),
    [
        ("size", "0", "--size must be a whole number above 0, not '0'"),
        ("size", "²", "--size must be a whole number above 0"),
        ("top_n", "-3", "--top-n must be a whole number above 0"),
        ("norm_eps", "nan", "--norm-eps must be a number from 0 up to 1"),
        ("norm_eps", "1", "--norm-eps must be a number from 0 up to 1"),
        ("until", "end", "--until must be one of onnx, engine, not 'end'"),
        ("where", "cloud", "--in must be one of auto, docker, host, not 'cloud'"),
    ],
)
def test_invalid_option_value_is_named(name, word, said):
    with pytest.raises(UsageError, match=said):
        ConversionRequest.from_words({name: word})
