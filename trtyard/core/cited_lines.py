"""Regular expressions for lines of Python code that a log or message cites.

A path may contain any characters; it ends at ``.py`` followed by text such as ``", line 3, in``, or
at the end of the line. Every pattern has the groups ``file`` and ``line``; some also ``function``
and ``code``.
"""

import re

_FILE = r"(?P<file>\S[^\n]*?\.py)"
_FUNCTION = r"(?P<function>[\w.<>]+)"
# Text that loggers write before an absolute path: a time stamp, a logger's name.
_ABSOLUTE = r"(?:/|~/|[A-Za-z]:[\\/])"
_BEFORE = rf"(?:(?!{_ABSOLUTE})[^\n]*?[ \t:](?={_ABSOLUTE}))?"

# trtyard's own messages.
OWN_AT = re.compile(
    rf"^\s*at {_FILE}:(?P<line>\d+)(?: in {_FUNCTION}(?:: (?P<code>.*))?)?$", re.MULTILINE
)
# A traceback, or the stack that the dynamo exporter records: outermost call first.
FRAME = re.compile(
    rf'File "{_FILE}", line (?P<line>\d+), in {_FUNCTION}(?:\n[^\S\n]*(?!File ")(?P<code>\S.*))?'
)
# A traceback in a notebook.
NOTEBOOK_FRAME = re.compile(
    rf"^File {_FILE}:(?P<line>\d+), in {_FUNCTION}\([^\n]*\)$"
    r"(?:[\s\S]{0,2000}?\n-+> (?P=line)\s+(?P<code>.*))?",
    re.MULTILINE,
)
# The TorchScript exporter's stack, innermost call first: ``net.py(14): forward``.
TRACED = re.compile(
    rf"^(?:\s*at |{_BEFORE}){_FILE}\((?P<line>\d+)\): {_FUNCTION}[^\S\n]*$", re.MULTILINE
)
# Comments in the TorchScript exporter's graphs: ``# net.py:14:0``.
GRAPH_COMMENT = re.compile(rf"# {_FILE}:(?P<line>\d+):\d+[^\w\s]*\s*$", re.MULTILINE)
# Python's warnings: ``net.py:14: TracerWarning: ...``.
WARNED = re.compile(rf"^{_BEFORE}{_FILE}:(?P<line>\d+): \w*Warning: ", re.MULTILINE)

_LIBRARY = re.compile(
    r"/(?:site|dist)-packages/|/lib(?:64)?/python\d[\d.]*/|/python\d*/lib/|/importlib/"
    # torch run from its sources
    r"|/torch/(?:_|export/|fx/|jit/|nn/|onnx/|utils/)"
    r"|/trtyard/pipeline/export/",
    re.IGNORECASE,
)


def is_library(file: str) -> bool:
    """Return whether ``file`` belongs to Python, an installed package, torch or an exporter."""
    return _LIBRARY.search(file.replace("\\", "/")) is not None
