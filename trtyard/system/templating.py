"""Renders Jinja2 templates; undefined names are errors, and nothing is HTML-escaped."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trtyard.core.errors import UsageError

# Workflows use braces themselves, so the CI templates use square brackets.
BRACES = ("{%", "%}", "{{", "}}", "{#", "#}")
BRACKETS = ("[%", "%]", "[[", "]]", "[#", "#]")


def rendered(
    folder: Path, name: str, facts: Mapping[str, Any], marks: tuple[str, ...] = BRACES
) -> str:
    """Return the template ``folder/name`` rendered with ``facts``.

    ``marks`` open and close a block, a value and a comment, in that order. ``UsageError`` names the
    template if it has an error.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

    # The output is not HTML, so escaping would break it.
    environment = Environment(  # noqa: S701
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        block_start_string=marks[0],
        block_end_string=marks[1],
        variable_start_string=marks[2],
        variable_end_string=marks[3],
        comment_start_string=marks[4],
        comment_end_string=marks[5],
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    try:
        return environment.get_template(name).render(facts).lstrip("\n")
    except TemplateError as error:
        where = getattr(error, "name", None) or name
        raise UsageError(f"{folder.name}/{where}: {error}", "fix the template") from None
