"""A method of one's own: found, keyed by its source, held to the contract, and heard when it fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.selecting.by_scores import SelectConfig, select
from tamis.training.selecting.own import find_method

Own = Callable[..., str]
HEAD = """
import numpy as np
from tamis.curation import Choice, Inputs, Method
"""
LAST = """
def last(inputs, *, k, step: int = 1, generator):
    '''The last samples, every so many.'''
    return Choice(np.arange(inputs.n)[::-step][:k], np.ones(k, np.float32))
"""
BY_SCORES = """
def lowest(inputs, *, k, generator):
    best = np.argsort(inputs.scores("lowest")[0], kind="stable")[:k]
    return Choice(best, np.ones(k, np.float32))
METHOD = Method("lowest", 7, "the lowest scores", lowest, needs=frozenset({"scores"}))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Own:
    """Writes a module of this test into the current folder, and names a thing in it."""
    monkeypatch.chdir(tmp_path)

    def write(thing: str, body: str) -> str:
        name = f"own_{abs(hash(request.node.name)):x}"
        (tmp_path / f"{name}.py").write_text(HEAD + body)
        return f"{name}:{thing}"

    return write


def ask(store: Store, method: str, **more: Any) -> Any:
    return select(store, SelectConfig(**{"dataset": "sixty", "method": method, "budget": 3, **more}))


def test_a_function_is_a_method(store: Store, sixty: Dataset, own: Own) -> None:
    name = own("last", LAST)
    made = ask(store, name, params={"step": 2}).selection
    assert made.round_at(0)[0].tolist() == [59, 57, 55]
    assert (made.ref, made.method, made.method_version) == ("sixty-last@1", name, 1)
    assert made.params["step"] == 2
    assert not ask(store, name, params={"step": 2}).created
    assert find_method(name)[0].summary == "The last samples, every so many"


def test_a_method_object_has_a_version_and_says_what_it_needs(store: Store, sixty: Dataset, own: Own) -> None:
    scored = "5c0e" + "0" * 28
    store.runs.begin(kind="score", key=scored, dataset=sixty.ref, model="by hand")
    store.runs.put_scores(scored, {"entropy": np.arange(60.0)[::-1]}, np.arange(60))
    store.runs.finish(scored)
    made = ask(store, own("METHOD", BY_SCORES)).selection
    assert made.round_at(0)[0].tolist() == [59, 58, 57]
    assert (made.method_version, made.inputs) == (7, (scored,))


def test_another_source_is_another_question(own: Own, tmp_path: Path) -> None:
    name = own("last", LAST)
    _, digest = find_method(name)
    path = tmp_path / f"{name.partition(':')[0]}.py"
    path.write_text(f"{path.read_text()}\n# changed\n")
    assert digest is not None
    assert find_method(name)[1] != digest


@pytest.mark.parametrize(
    ("thing", "body", "words"),
    [
        ("nothing", LAST, "cannot be imported: .*nothing.*Expected module:function"),
        ("np", LAST, "is a module; expected a function select"),
        ("f", "def f(inputs, *, k): ...", "takes no generator; expected select"),
        ("f", "def f(inputs, *, k, power, generator): ...", "power of own_.* has no default"),
        ("f", "def f(inputs, *, k, seed=1, generator): ...", "parameter seed, which is reserved"),
        ("f", "def f(inputs, *, k, generator): return [0, 1, 2]", "returned a list; expected a tamis.curation.Choice"),
        (
            "f",
            "def f(inputs, *, k, generator): return Choice(np.zeros(k, np.int64), np.ones(k, np.float32))",
            "each sample once; found 2 twice",
        ),
        (
            "f",
            "def f(inputs, *, k, generator): return inputs.scores('f')",
            "needs the scores .* the method's `needs`",
        ),
        ("f", "def f(inputs, *, k, generator): return 1 / 0", r"Method own_.* failed: ZeroDivisionError(.|\n)*in f"),
        ("f", "raise RuntimeError('not today')", r"Method own_.* failed: RuntimeError: not today(.|\n)*own_"),
    ],
)
def test_what_is_wrong_is_said(store: Store, sixty: Dataset, own: Own, thing: str, body: str, words: str) -> None:
    with pytest.raises((ValueError, RuntimeError, KeyError), match=words):
        ask(store, own(thing, body))
    assert store.selections.all() == []


def test_parameters_are_checked_before_anything_is_chosen(store: Store, sixty: Dataset, own: Own) -> None:
    with pytest.raises(ValueError, match="step is 'two'; expected a whole number"):
        ask(store, own("last", LAST), params={"step": "two"})
