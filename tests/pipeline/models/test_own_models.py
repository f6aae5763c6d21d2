"""A user's own models, from files and modules, good and bad."""

import importlib
import io
import os
import sys

import pytest
import torch

from trtyard.core.errors import UsageError
from trtyard.pipeline.models import own
from trtyard.pipeline.models.own import load_own
from trtyard.pipeline.models.user_code import ENDS
from trtyard.pipeline.models.weights import Choice

SEEDED = Choice(None, 0)

NETS = '''
import torch
from sizes_of_nets import WIDTH

class Words(torch.nn.Module):
    """Whole numbers, and which of them count."""
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(30, 4)
    def forward(self, numbers, counts):
        return self.table(numbers) * counts[..., None]

class Two(torch.nn.Module):
    """Two inputs, a dict of outputs."""
    def __init__(self):
        super().__init__()
        self.left = torch.nn.Linear(4, WIDTH)
        self.right = torch.nn.Linear(10, WIDTH)
    def forward(self, a, b):
        return {"sum": self.left(a) + self.right(b), "difference": self.left(a) - self.right(b)}

class Echo(torch.nn.Module):
    def forward(self, x):
        return {"input": x + 1, "more": x}

class Pair(torch.nn.Module):
    def forward(self, x):
        return [x + 1, x * 2]

class Scalar(torch.nn.Module):
    def forward(self, x):
        return x, 3

def make():
    return torch.nn.Linear(4, WIDTH)

def half():
    return make().half().train()

def raises():
    raise KeyError("no config")

def leaves():
    raise SystemExit(7)

def wants(argument):
    return make()

def returns_text():
    return "a model"

def on_meta():
    return torch.nn.Sequential(make().to("meta"))

def lazy():
    return torch.nn.LazyLinear(2)

class Refuses(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
    def train(self, mode=True):
        raise RuntimeError("trains for ever")

class Leaves(torch.nn.Module):
    def forward(self, x):
        raise SystemExit(0)

class Extra(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 3)
    def get_extra_state(self):
        return {"made": "today"}
    def set_extra_state(self, state):
        pass

class Changes(torch.nn.Module):
    """Its input, its buffer, and what it returned before."""
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1))
    def forward(self, x):
        self.total += x.add_(1).sum()
        return x, self.total

class Types(torch.nn.Module):
    def forward(self, x):
        return {"fine": x, "low": x.bfloat16()}

class Complex(torch.nn.Module):
    def forward(self, x):
        return torch.complex(x, x)

class Sparse(torch.nn.Module):
    def forward(self, x):
        return x.to_sparse()

class Meta(torch.nn.Module):
    def forward(self, x):
        return x.to("meta")

ready = make()
number = 3

class Space:
    build = staticmethod(make)
'''


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "nets_for_test.py").write_text(NETS)
    (tmp_path / "sizes_of_nets.py").write_text("WIDTH = 3\n")
    package = tmp_path / "package_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("import torch\ndef make(): return torch.nn.Linear(4, 2)\n")
    (package / "needs.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield str(tmp_path / "nets_for_test.py")
    for name in set(sys.modules) - known:
        del sys.modules[name]


def message_of(spec, shape="1x4", choice=SEEDED):
    with pytest.raises(UsageError) as caught:
        load_own(spec, choice, shape)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("name", ["make", "ready", "Space.build"])
def test_callables_classes_and_modules_load(nets, name):
    model = load_own(f"{nets}:{name}", SEEDED, "2x4")
    assert model.kind == "tensor"
    assert model.name == f"{nets}:{name}"
    assert (model.input_names, model.output_names) == (("input",), ("output",))
    assert not model.module.training
    assert model.module(*model.inputs).dtype == torch.float32
    assert tuple(model.module(*model.inputs).shape) == (2, 3)


def test_relative_file_and_local_module_are_found(nets):
    for spec in ("nets_for_test.py:make", "./nets_for_test.py:make", "package_for_test.nets:make"):
        assert load_own(spec, SEEDED, "1x4").inputs[0].shape == (1, 4)


def test_several_inputs_and_a_dict_of_outputs(nets):
    model = load_own(f"{nets}:Two", SEEDED, "1x4,1x10")
    assert model.input_names == ("input_0", "input_1")
    assert model.output_names == ("sum", "difference")
    total, difference = model.module(*model.inputs)
    torch.testing.assert_close((total + difference) / 2, model.module.module.left(model.inputs[0]))


def test_a_list_of_outputs_becomes_a_tuple(nets):
    model = load_own(f"{nets}:Pair", SEEDED, "5")
    assert model.output_names == ("output_0", "output_1")
    outputs = model.module(*model.inputs)
    assert isinstance(outputs, tuple)
    torch.testing.assert_close(outputs[1], model.inputs[0] * 2)


def test_callables_random_values_follow_the_seed(nets):
    first = load_own(f"{nets}:make", Choice(None, 1), "1x4")
    torch.rand(3)
    again = load_own(f"{nets}:make", Choice(None, 1), "1x4")
    other = load_own(f"{nets}:make", Choice(None, 2), "1x4")
    assert first.weights == again.weights
    assert first.weights.sha256 != other.weights.sha256
    assert torch.equal(first.inputs[0], again.inputs[0])
    assert float(first.inputs[0].abs().max()) > 0


def test_weights_file_loads_into_the_users_module(nets, tmp_path):
    source = torch.nn.Linear(4, 3)
    path = str(tmp_path / "weights.pth")
    torch.save({"model": source.state_dict()}, path)
    model = load_own(f"{nets}:make", Choice(path, 0), "1x4")
    assert model.weights.source == path
    assert torch.equal(model.module(*model.inputs), source(*model.inputs))
    torch.save(torch.nn.Linear(5, 3).state_dict(), path)
    assert "shape: weight is [3, 5], not [3, 4]" in message_of(
        f"{nets}:make", choice=Choice(path, 0)
    )


def test_a_missing_input_says_how_to_give_one(nets):
    with pytest.raises(UsageError, match="shape of your model's input is needed") as caught:
        load_own(f"{nets}:make", SEEDED, None)
    assert "--input 1x3x224x224" in caught.value.hint


def test_wrong_name_error_lists_valid_names(nets, tmp_path):
    assert "no such file" in message_of(f"{tmp_path}/none.py:make")
    with pytest.raises(UsageError, match=r"has no 'mke'; it has: .*Pair, .*, make, ") as caught:
        load_own(f"{nets}:mke", SEEDED, "1x4")
    assert caught.value.hint == f"--model {nets}:make"
    assert "no module 'not_there'" in message_of("not_there.nets:make")
    assert "no module 'package_for_test.not_there'" in message_of("package_for_test.not_there:make")
    assert "neither a module nor a file" in message_of("my nets:make")
    for spec in (":make", f"{nets}:", ":"):
        assert "a colon and a callable" in message_of(spec)


def test_callables_that_give_no_module_are_refused(nets):
    assert "KeyError: 'no config'" in message_of(f"{nets}:raises")
    line = NETS.splitlines().index('    raise KeyError("no config")') + 1
    assert f"nets_for_test.py, line {line})" in message_of(f"{nets}:raises")
    assert "SystemExit" in message_of(f"{nets}:leaves")
    assert "missing 1 required positional argument" in message_of(f"{nets}:wants")
    assert "returned str, not a torch.nn.Module" in message_of(f"{nets}:returns_text")
    assert "is int, which cannot be called" in message_of(f"{nets}:number")


def test_a_file_that_cannot_be_imported_is_named_with_its_line(nets, tmp_path):
    broken = tmp_path / "broken_for_test.py"
    broken.write_text("x = 1\nclass (:\n")
    assert "SyntaxError" in message_of(f"{broken}:make")
    assert "line 2" in message_of(f"{broken}:make")
    broken.write_text("x = 1\n\nraise RuntimeError('at import')\n")
    assert "RuntimeError: at import" in message_of(f"{broken}:make")
    assert "broken_for_test.py, line 3)" in message_of(f"{broken}:make")
    assert "a_package_that_is_not_there" in message_of("package_for_test.needs:make")


def test_a_forward_that_fails_or_returns_no_tensors_is_refused(nets):
    words = message_of(f"{nets}:make", "1x5")
    assert "fails with these inputs ([1, 5] float32)" in words
    assert "shapes cannot be multiplied" in words
    assert "returns (Tensor, int)" in message_of(f"{nets}:Scalar", "1x5")


def test_a_users_file_does_not_hide_an_installed_module(nets, tmp_path, monkeypatch):
    (tmp_path / "wave.py").write_text("raise RuntimeError('not this one')\n")
    load_own(f"{nets}:make", SEEDED, "1x4")
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    assert importlib.import_module("wave").__file__ != str(tmp_path / "wave.py")


def test_weights_without_values_are_refused(nets):
    assert "0.weight, 0.bias are on the meta device" in message_of(f"{nets}:on_meta")
    assert "weight, bias are of a lazy layer" in message_of(f"{nets}:lazy")


def test_module_that_refuses_eval_is_named_with_its_line(nets):
    words = message_of(f"{nets}:Refuses")
    assert "on the CPU and into eval mode: RuntimeError: trains for ever" in words
    line = NETS.splitlines().index('        raise RuntimeError("trains for ever")') + 1
    assert f"nets_for_test.py, line {line})" in words


def test_forward_that_exits_fails_the_conversion(nets):
    assert "fails with these inputs ([1, 4] float32): SystemExit: 0" in message_of(f"{nets}:Leaves")


def test_extra_state_is_not_a_weight(nets, tmp_path):
    source = torch.nn.Linear(4, 3)
    path = str(tmp_path / "weights.pth")
    torch.save(source.state_dict(), path)
    model = load_own(f"{nets}:Extra", Choice(path, 0), "1x4")
    assert torch.equal(model.module(*model.inputs), source(*model.inputs))
    assert load_own(f"{nets}:Extra", SEEDED, "1x4").weights.sha256


def test_finding_outputs_has_no_side_effects(nets):
    model = load_own(f"{nets}:Changes", SEEDED, "1x4")
    assert model.module.module.total.tolist() == [0]
    assert torch.equal(model.inputs[0], load_own(f"{nets}:make", SEEDED, "1x4").inputs[0])


def test_uncomparable_output_error_has_name_and_type(nets):
    for name, words in {
        "Types": "its output 'low' is bfloat16",
        "Complex": "its output 'output' is complex64",
        "Sparse": "its output 'output' is sparse_coo",
        "Meta": "its output 'output' is on the meta device",
    }.items():
        assert words in message_of(f"{nets}:{name}")


def test_line_is_found_in_a_folder_named_torch(nets, tmp_path):
    folder = tmp_path / "torch" / "lib" / "python3"
    folder.mkdir(parents=True)
    (folder / "net_below_torch.py").write_text(
        "import torch\ndef make():\n    torch.zeros(2) @ torch.zeros(3)\n"
    )
    words = message_of(f"{folder}/net_below_torch.py:make")
    assert "net_below_torch.py, line 3)" in words


def test_integer_and_bool_inputs_are_supported(nets):
    model = load_own(f"{nets}:Words", SEEDED, "2x50:int64:30,2x50:bool")
    numbers, counts = model.inputs
    assert (numbers.dtype, counts.dtype) == (torch.int64, torch.bool)
    assert (int(numbers.min()), int(numbers.max())) == (0, 29)
    assert counts.any()
    assert not counts.all()
    words = message_of(f"{nets}:Words", "2x5,2x5:bool")
    assert "fails with these inputs ([2, 5] float32, [2, 5] bool)" in words


def test_output_may_be_named_input(nets):
    model = load_own(f"{nets}:Echo", SEEDED, "1x4")
    assert model.output_names == ("input", "more")
    assert model.input_names == ("model_input",)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_module_uses_its_exporter(nets, monkeypatch):
    assert load_own(f"{nets}:make", SEEDED, "1x4").exporter is None
    script = torch.jit.script(torch.nn.Linear(4, 3))
    for each in (script, torch.nn.Sequential(script)):
        monkeypatch.setattr(own, "find_callable", lambda _, each=each: each)
        assert load_own(f"{nets}:scripted", SEEDED, "1x4").exporter == "torchscript"


CALLED = """
import torch

class Net(torch.nn.Module):
    def __init__(self, num_classes, *, depth=1, act='relu', sizes=()):
        super().__init__()
        layers = [torch.nn.Linear(4, 4) for _ in range(depth)]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(4, num_classes))
        self.given = (num_classes, depth, act, sizes)
        getattr(torch, act)

    @classmethod
    def small(cls, depth: int = 1):
        return cls(2, depth=depth)

    def forward(self, x):
        return self.layers(x)

def make(first, second=2, *rest, named, **others):
    net = Net(first)
    net.given = (first, second, rest, named, others)
    return net

def passes_on(**options):
    return Net(3, **options)

class Long(Net):
    def __init__(self, num_classes, options="x" * 1000):
        super().__init__(num_classes)

def nothing():
    return Net(3)

ready = Net(3)
"""


@pytest.fixture
def called(nets, tmp_path):
    (tmp_path / "called_for_test.py").write_text(CALLED)
    return f"{tmp_path}/called_for_test.py"


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("Net(5)", (5, 1, "relu", ())),
        ("Net(5, depth=3, act='tanh')", (5, 3, "tanh", ())),
        ("Net(num_classes=5, sizes=[1, (2, 3)])", (5, 1, "relu", [1, (2, 3)])),
        ("Net.small(depth=2)", (2, 2, "relu", ())),
        ("Net.small()", (2, 1, "relu", ())),
        ("make(1, named=None)", (1, 2, (), None, {})),
        (
            "make(1, 3, 4.5, named={'a': True}, more='b')",
            (1, 3, (4.5,), {"a": True}, {"more": "b"}),
        ),
    ],
)
def test_callables_get_the_arguments_that_were_typed(called, call, given):
    model = load_own(f"{called}:{call}", SEEDED, "2x4")
    assert model.name == f"{called}:{call}"
    assert model.module.given == given
    assert tuple(model.module(*model.inputs).shape) == (2, given[0])


def test_a_modules_callable_gets_arguments_too(called):
    model = load_own("called_for_test:Net(num_classes=3)", SEEDED, "1x4")
    assert model.module.given == (3, 1, "relu", ())


def refused(spec):
    with pytest.raises(UsageError) as caught:
        load_own(spec, SEEDED, "1x4")
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("call", "said", "signature", "hint"),
    [
        ("Net(3, dept=2)", "unexpected keyword argument 'dept'", "Net(num_classes, *,", "depth"),
        ("Net()", "missing 1 required", "Net(num_classes, *, depth=1", "Net(num_classes=...)"),
        ("Net", "missing 1 required", "Net(num_classes, *, depth=1", "Net(num_classes=...)"),
        ("Net(3, 4)", "positional argument", "Net(num_classes, *, depth=1", "Net(num_classes="),
        ("Net.small(1, 2)", "positional argument", "Net.small(depth: int = 1)", "small(depth=...)"),
        ("Net(3, num_classes=3)", "multiple values", "Net(num_classes, *,", "Net(num_classes="),
        (
            "make(1)",
            "required keyword-only argument: 'named'",
            "make(first, second=2,",
            "named=...",
        ),
        ("Long(3, 4, 5)", "positional argument", "Long(num_classes, options)", "Long("),
        ("nothing(3)", "positional argument", "nothing()", "called_for_test.py:nothing"),
    ],
)
def test_wrong_arguments_are_refused_with_the_signature(called, call, said, signature, hint):
    message, advice = refused(f"{called}:{call}")
    assert message.startswith(f"{called}:{call} cannot be called: TypeError: ")
    assert said in message
    assert f"its signature is {signature}" in message
    assert hint in advice


def test_errors_in_the_callable_name_the_line(called):
    message, hint = refused(f"{called}:passes_on(dept=2)")
    assert "raised when called: TypeError" in message
    assert "unexpected keyword argument 'dept'" in message
    line = CALLED.splitlines().index("    return Net(3, **options)") + 1
    assert f"called_for_test.py, line {line})" in message
    assert "check the arguments" in hint
    message, _ = refused(f"{called}:Net(3, act='none')")
    assert "raised when called: AttributeError" in message


def test_a_module_object_takes_no_arguments(called):
    load_own(f"{called}:ready()", SEEDED, "1x4")
    message, hint = refused(f"{called}:ready(3)")
    assert "ready is a module object, which takes no arguments" in message
    assert hint.endswith(f"--model {called}:ready")


def test_a_misspelt_callable_keeps_its_arguments_in_the_hint(called):
    message, hint = refused(f"{called}:Nett(num_classes=3)")
    assert "has no 'Nett'" in message
    assert hint == f"--model '{called}:Net(num_classes=3)'"


UNTIDY = """
import os, sys, torch
{}
def make():
    return torch.nn.Linear(4, 3)
def later():
    {}
    return make()
"""


@pytest.fixture
def untidy(nets, tmp_path):
    def write(code):
        (tmp_path / "untidy_for_test.py").write_text(UNTIDY.format(code, code))
        return [f"{tmp_path}/untidy_for_test.py:{name}" for name in ("make", "later")]

    return write


def test_a_file_that_ends_the_process_is_refused(untidy, monkeypatch):
    spec, _ = untidy("sys.exit(3)")
    message, hint = refused(spec)
    assert "cannot be imported: SystemExit: 3" in message
    assert "untidy_for_test.py, line 3)" in message
    assert "if __name__ == '__main__':" in hint
    monkeypatch.setattr(sys, "argv", ["pipeline", "convert", "--model", "x"])
    spec, _ = untidy("import argparse; argparse.ArgumentParser().parse_args()")
    assert "SystemExit: 2" in refused(spec)[0]


def test_models_may_print(untidy, capsys):
    for spec in untidy("print('made by hand'); sys.stderr.write('and more')"):
        load_own(spec, SEEDED, "1x4")
        assert "made by hand" in capsys.readouterr().out


def test_streams_that_a_model_replaces_are_restored(untidy):
    kept = sys.stdout, sys.stderr
    for spec in untidy("import io; sys.stdout = sys.stderr = io.StringIO()"):
        load_own(spec, SEEDED, "1x4")
        assert (sys.stdout, sys.stderr) == kept


@pytest.mark.parametrize("index", [0, 1])
def test_a_model_that_closes_the_output_is_refused(untidy, monkeypatch, index):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert "closes sys.stdout" in refused(untidy("sys.stdout.close()")[index])[0]


def test_a_model_that_closes_the_error_stream_is_refused(untidy, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert "closes sys.stderr" in refused(untidy("sys.stderr.close()")[1])[0]


def test_a_callable_that_exits_is_told_so(untidy, tmp_path):
    (tmp_path / "exits_for_test.py").write_text("import sys\ndef make():\n    sys.exit(3)\n")
    message, hint = refused(f"{tmp_path}/exits_for_test.py:make")
    assert "SystemExit: 3" in message
    assert hint == ENDS


def test_a_model_may_change_and_remove_the_working_directory(untidy, tmp_path):
    code = "import tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)"
    for spec in untidy(code):
        os.chdir(tmp_path)
        model = load_own(spec, SEEDED, "1x4")
        assert tuple(model.module(*model.inputs).shape) == (1, 3)
    os.chdir(tmp_path)
