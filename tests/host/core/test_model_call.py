"""``--model 'nets.py:make_net(num_classes=10)'``: the callable and its arguments."""

import pytest

from trtyard.core.errors import UsageError
from trtyard.core.known_models import refuse_impossible
from trtyard.core.model_call import ModelCall, read_call


@pytest.mark.parametrize(
    ("spec", "place", "name"),
    [
        ("nets.py:make", "nets.py", "make"),
        ("package.nets:Net.build", "package.nets", "Net.build"),
        ("my nets (1).py:make", "my nets (1).py", "make"),
        ("a:b(1).py:make", "a:b(1).py", "make"),
        ("C:/nets.py:make", "C:/nets.py", "make"),
        ("alexnet", "", "alexnet"),
        ("nets.py:", "nets.py", ""),
        ("", "", ""),
    ],
)
def test_without_parentheses_there_are_no_arguments(spec, place, name):
    assert read_call(spec) == ModelCall(place, name)


@pytest.mark.parametrize(
    ("typed", "positional", "keyword"),
    [
        ("()", (), {}),
        ("(10)", (10,), {}),
        ("(num_classes=10, depth=18)", (), {"num_classes": 10, "depth": 18}),
        ("(-1, 1e-5, 2.5, None, True,)", (-1, 1e-5, 2.5, None, True), {}),
        ("('a b', x=\"it's\")", ("a b",), {"x": "it's"}),
        ("([1, (2, 3)], map={'a': [1], 2: None})", ([1, (2, 3)],), {"map": {"a": [1], 2: None}}),
        ("(path='x.py:make(1)', other=':f(')", (), {"path": "x.py:make(1)", "other": ":f("}),
        (" ( 1 ) ", (1,), {}),
        ("('ö/\\n')", ("ö/\n",), {}),
    ],
)
def test_arguments_are_literals(typed, positional, keyword):
    for target in ("nets.py:make", "a:b/nets.py:make", "package.nets:Net.build"):
        found = read_call(target + typed)
        assert f"{found.place}:{found.name}" == target
        assert found.typed == typed.strip()
        assert (found.positional, found.keyword) == (positional, keyword)
        assert found.has_arguments == bool(positional or keyword)


@pytest.mark.parametrize(
    ("typed", "said", "advised"),
    [
        ("(num_classes=N)", "the argument num_classes (num_classes=N) is not", "num_classes='N'"),
        ("(relu)", "argument 1 (relu) is not a literal", "for a string, add quotes: 'relu'"),
        ("(1, f(2))", "argument 2 (f(2)) is not a literal", "nets.py:make_net"),
        ("(a=open('x').read())", "the argument a (a=open('x').read())", "nets.py:make_net"),
        ("(pretrained=true)", "the argument pretrained", "pretrained=True"),
        ("(x=null)", "the argument x", "x=None"),
        ("(x={1, 2})", "the argument x", "nets.py:make_net"),
        ("(x=b'1')", "the argument x", "nets.py:make_net"),
        ("(x={[]: 1})", "the argument x", "nets.py:make_net"),
        ("(x=f'{y}')", "the argument x", "nets.py:make_net"),
        (f"(x=0x{'f' * 5000})", "the argument x", "nets.py:make_net"),
        ("(x for x in y)", "argument 1", "nets.py:make_net"),
        ("(*[1])", "argument 1", "nets.py:make_net"),
        ("(**{'a': 1})", "** cannot be used", "nets.py:make_net"),
    ],
)
def test_another_argument_is_named(typed, said, advised):
    with pytest.raises(UsageError) as caught:
        read_call(f"nets.py:make{typed}")
    assert caught.value.message.startswith(f"--model nets.py:make{typed}: ")
    assert said in caught.value.message
    assert "literals only: numbers, strings, True" in caught.value.message
    assert advised in caught.value.hint


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("(1", "cannot read the arguments"),
        ("(a=1, 2)", "cannot read the arguments"),
        ("(1, ,)", "cannot read the arguments"),
        ("(1).cuda()", "something after the closing parenthesis"),
        ("(1)(2)", "something after the closing parenthesis"),
        ("(" + "(" * 10_000 + ")" * 10_000 + ")", "cannot read the arguments"),
        ("(a=1, a=2)", "argument a"),
    ],
)
def test_arguments_that_are_no_python_are_refused(typed, said):
    with pytest.raises(UsageError, match=r"nets\.py:make") as caught:
        read_call(f"nets.py:make{typed}")
    assert said in caught.value.message or "keyword argument repeated: a" in caught.value.message
    assert caught.value.hint == "--model 'nets.py:make_net(num_classes=10, depth=18)'"


def test_no_code_in_arguments_runs(tmp_path):
    file = tmp_path / "made"
    with pytest.raises(UsageError, match="is not a literal"):
        read_call(f"nets.py:make(open({str(file)!r}, 'w'))")
    assert not file.exists()


def test_spelling_of_arguments_does_not_matter():
    first = read_call("nets.py:make(1, depth=18,act='relu')")
    again = read_call('nets.py:make( 1, act="relu", depth = 18 )')
    assert first.arguments == again.arguments == "1, act='relu', depth=18"
    for other in ("('1', depth=18, act='relu')", "(1, 18, 'relu')", "(True, depth=18, act='relu')"):
        assert read_call(f"nets.py:make{other}").arguments != first.arguments


@pytest.mark.parametrize(
    ("spec", "advised"),
    [
        ("resnet18(num_classes=10)", "--model 'torchvision.models:resnet18(num_classes=10)'"),
        ("resnet18(name='a:b')", "torchvision.models:resnet18("),
        ("faster_rcnn(3)", "--model nets.py:make_net"),
        ("fcn_resnet50(num_classes=2)", "--model nets.py:make_net"),
    ],
)
def test_a_models_name_takes_no_arguments(spec, advised):
    with pytest.raises(UsageError, match="only a callable takes arguments") as caught:
        refuse_impossible(spec)
    assert advised in caught.value.hint
