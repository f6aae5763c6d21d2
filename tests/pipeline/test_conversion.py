"""What a conversion does not try."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from trtyard.pipeline.conversion import Conversion, PluginSource
from trtyard.pipeline.row import Row
from trtyard.pipeline.stages import NotRunError

ROW = Row("8.6", "8.6.1.6", "full", "torchscript", 17, "12.1", ("89",), ("8.9",))


@pytest.mark.parametrize("tensorrt", ["7.0.0.11", "8.6.1.6"])
def test_an_engine_of_a_release_that_nothing_here_drives_is_not_run_and_it_is_named(tensorrt):
    model = SimpleNamespace(inputs=(), input_names=())
    plugins = PluginSource(None, Path("plugins"), Path("cache"))
    row = ROW._replace(tensorrt=tensorrt)
    conversion = Conversion(row, model, Path("out"), plugins, lambda _: None)
    with pytest.raises(NotRunError, match=tensorrt):
        conversion._engine()
