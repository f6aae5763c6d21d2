from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from trtyard.core.errors import IntegrityError
from trtyard.system.reading import (
    AtLeastOne,
    Between,
    FromKey,
    Matching,
    Reader,
    schema_of,
    shape_of,
)

Name = Annotated[str, Matching(r"[a-z]+", "a name in lower case")]


@dataclass(frozen=True, kw_only=True)
class Part:
    key: Annotated[str, FromKey(str.upper)]
    size_mb: Annotated[int, Between(0, 9)]

    def problems(self):
        if self.size_mb == 7:
            yield "size-mb", "cannot be 7"


@dataclass(frozen=True, kw_only=True)
class Whole:
    schema: Literal[2]
    kind: Literal["round", "square"]
    names: AtLeastOne[Name]
    parts: Mapping[Name, Part] = field(default_factory=dict)
    more: tuple[Part, ...] = ()
    place: Annotated[str, Matching(r"https://[^@]+", "an address", "use netrc")] = ""
    in_: bool = False
    share: float = 0.5


GOOD = {"schema": 2, "kind": "round", "names": ["a"], "parts": {"one": {"size-mb": 1}}}


def read(value):
    reader = Reader(file=Path("a/file.toml"), error=IntegrityError, hint="h", dashes=True)
    return reader.read(Whole, value)


def test_values_and_defaults_are_read():
    part = Part(key="ONE", size_mb=1)
    assert read(GOOD) == Whole(schema=2, kind="round", names=("a",), parts={"one": part})


def test_flags_and_numbers_are_read_and_keywords_are_keys():
    assert read({**GOOD, "in": True, "share": 1}).in_ is True
    assert read({**GOOD, "share": 0.25}).share == 0.25
    keys = schema_of(shape_of(Whole))["properties"]
    assert (keys["in"], keys["share"]) == ({"type": "boolean"}, {"type": "number"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in": 1}, "in must be true or false, not 1"),
        ({"in_": True}, "in_ is not a known key; did you mean 'in' or 'kind'?"),
        ({"share": True}, "share must be a number, not True"),
        ({"share": "1"}, "share must be a number, not '1'"),
        ({"schema": 3}, "schema must be 2 for this version of trtyard, not 3"),
        ({"schema": 2.0}, "schema must be 2 for this version of trtyard, not 2.0"),
        (
            {"kind": "rond"},
            "kind must be one of round, square, not 'rond'; did you mean 'round'?",
        ),
        ({"names": "a"}, "names must be a list, not 'a'"),
        ({"names": []}, "names must not be empty"),
        ({"names": ["a", "a"]}, "names has a duplicate entry"),
        ({"names": ["a", "B"]}, "names[1] must be a name in lower case, not 'B'"),
        ({"names": ["a\n"]}, r"names[0] must be a name in lower case, not 'a\n'"),
        ({"parts": {"One": {}}}, "parts.One must be a name in lower case, not 'One'"),
        ({"parts": {"one": 1}}, "parts.one must be a table"),
        ({"parts": {"one": {}}}, "parts.one.size-mb is missing"),
        (
            {"parts": {"one": {"size-mb": True}}},
            "parts.one.size-mb must be a whole number from 0 to 9, not True",
        ),
        ({"parts": {"one": {"size-mb": 7}}}, "parts.one.size-mb cannot be 7"),
        (
            {"parts": {"one": {"size-mb": 1, "size-gb": 1}}},
            "parts.one.size-gb is not a known key; did you mean 'size-mb'?",
        ),
        ({"more": [{"size-mb": 10}]}, "more[0].size-mb must be a whole number from 0 to 9, not 10"),
        ({"place": "https://me:pw@x"}, "place must have no user or password: use netrc"),
        ({"place": ["https://me:pw@x"]}, "place must have no user or password: use netrc"),
    ],
)
def test_wrong_values_are_errors_with_file_and_key(change, message):
    with pytest.raises(IntegrityError) as caught:
        read({**GOOD, **change})
    assert caught.value.message == f"file.toml: {message}"


def test_a_missing_or_wrong_file_content_is_an_error():
    with pytest.raises(IntegrityError, match=r"file\.toml: the file must be a table"):
        read([])
    with pytest.raises(IntegrityError, match=r"file\.toml: schema is missing"):
        read({})
