import fastjsonschema
import pytest

from trtyard.core.errors import IntegrityError
from trtyard.matrix.reader import read_matrix
from trtyard.matrix.schema import (
    SCHEMA_FILE,
    check_schema,
    matrix_schema,
    schema_text,
    write_schema,
)
from trtyard.system.reading import parse_toml
from trtyard.system.uv import MATRIX_FILE, ROOT

TEXT = MATRIX_FILE.read_text(encoding="utf-8")
ROW = matrix_schema()["properties"]["rows"]["additionalProperties"]


def is_valid(text):
    try:
        fastjsonschema.compile(matrix_schema())(parse_toml(text))
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


def test_versions_toml_is_valid_and_names_its_schema():
    assert TEXT.splitlines()[0] == f"#:schema ./{SCHEMA_FILE}"
    assert is_valid(TEXT)


OPTIONAL = {
    "platform digest": (
        'digest-kind = "unknown"',
        f'digest-kind = "index"\nplatform-digest = "sha256:{"0" * 64}"',
    ),
    "unresolved digest": ('digest = "sha256:7b140f37', 'digest = "unresolved" # '),
    "nvcc": ("opset = 18", 'opset = 18\nnvcc = "11.8"'),
    "vendor-debs": (
        '[rows."8.6".sources]',
        '[rows."8.6".vendor-debs]\nlibnvinfer8 = "8.6.1.6-1+cuda11.8"\n[rows."8.6".sources]',
    ),
}


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_keys_are_valid(name):
    old, new = OPTIONAL[name]
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    assert is_valid(text)


WRONG = {
    "missing key": ('flavour = "rtx"\n', ""),
    "unknown key": ("opset = 18", "opset = 18\nopsett = 1"),
    "unknown key of a table": ('suite = "bookworm"', 'suite = "bookworm"\nsuits = "x"'),
    "wrong type": ("opset = 18", 'opset = "18"'),
    "out of range": ("opset = 18", "opset = 180"),
    "no such flavour": ('flavour = "rtx"', 'flavour = "rtz"'),
    "no such executor": ('["docker", "host"]', '["docker", "hots"]'),
    "range instead of a version": ('torch = "2.13.0"', 'torch = ">=2.13"'),
    "package spelt otherwise": ('onnxruntime = "1.32.0"', 'Onnx_IR = "1.1.0"'),
    "short digest": ("sha256:7b14", "sha256:"),
    "list with a twin": ('["80", "86"', '["80", "80"'),
    "empty list": ('["80", "86", "89", "120"]', "[]"),
    "a pin without its origin": ('origin = "two files of one public project"\n', ""),
    "short commit": ("84b5be1d6fc0", "84b5"),
    "row named by no release": ('[rows."8.6"', '[rows."eight"'),
    "later schema": ("schema = 1", "schema = 2"),
    "text after the pattern": ('suite = "bookworm"', 'suite = "bookworm 12"'),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_invalid(name):
    old, new = WRONG[name]
    text = TEXT.replace(old, new)
    assert text != TEXT
    assert not is_valid(text)


def test_required_and_optional_keys_are_those_of_the_reader():
    optional = set(ROW["properties"]) - set(ROW["required"])
    assert optional == {
        "nvcc", "packages-on", "sources", "gpu", "vendor-packages", "public-pins", "vendor-debs",
        "commits", "terms",
    }  # fmt: skip
    base = ROW["properties"]["base"]
    assert set(base["properties"]) - set(base["required"]) == {"platform-digest"}


def test_committed_schema_is_up_to_date():
    check_schema()


def test_changed_schema_is_found_and_written_again(tmp_path):
    with pytest.raises(IntegrityError, match=str(SCHEMA_FILE)):
        check_schema(tmp_path)
    assert write_schema(tmp_path)
    assert not write_schema(tmp_path)
    check_schema(tmp_path)
    (tmp_path / SCHEMA_FILE).write_text(schema_text().replace("18", "19").replace("99", "98"))
    with pytest.raises(IntegrityError, match=r"\./run render"):
        check_schema(tmp_path)


def test_render_check_guards_the_schema(tasks, checkout):
    (checkout / SCHEMA_FILE).write_text("{}\n")
    done = tasks("render", "--check", root=checkout)
    assert done.returncode == 5
    assert str(SCHEMA_FILE) in done.stderr
    assert tasks("render", root=checkout).returncode == 0
    assert (checkout / SCHEMA_FILE).read_bytes() == (ROOT / SCHEMA_FILE).read_bytes()


def test_a_comment_changes_no_row(tmp_path):
    file = tmp_path / "versions.toml"
    file.write_text("# more\n" + TEXT, encoding="utf-8")
    before, after = read_matrix(MATRIX_FILE), read_matrix(file)
    assert {row.sha256() for row in before.rows.values()} == {
        row.sha256() for row in after.rows.values()
    }
