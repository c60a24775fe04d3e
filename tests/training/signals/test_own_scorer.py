"""A scorer of one's own: found, keyed by its source, checked, and run from the command line as tamis' own is."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tamis.training.errors import ScoreError, ScorerFailed, UnknownScorer
from tamis.training.signals.own import find_scorer
from tamis.training.signals.scorers import UNCERTAINTY
from tamis.training.tasks import CLASSIFICATION

Own = Callable[..., str]
EL2N = """
import torch
from tamis.training import Scorer

def el2n(outputs, targets, task):
    '''The error L2 norm of Deep Learning on a Data Diet: |softmax(outputs) - onehot(target)|.'''
    onehot = torch.nn.functional.one_hot(targets, outputs.shape[1])
    return (outputs.softmax(dim=1) - onehot).norm(dim=1)

def both(outputs, targets, task):
    likeliest = outputs.softmax(dim=1).amax(dim=1)
    return {"sure": likeliest, "right": None if targets is None else outputs.argmax(dim=1) == targets}

SCORER = Scorer("sure", 3, {"sure": "lower"}, ("sure",), frozenset({"classification"}), both)
"""
LOGITS, TARGETS = torch.tensor([[0.0, 0.0], [50.0, 0.0]]), torch.tensor([0, 1])


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Own:
    """Writes a module of this test into the current folder, and names a thing in it."""
    monkeypatch.chdir(tmp_path)

    def write(thing: str, body: str = EL2N) -> str:
        name = f"scorer_{abs(hash(request.node.name)):x}"
        (tmp_path / f"{name}.py").write_text(body)
        sys.modules.pop(name, None)
        return f"{name}:{thing}"

    return write


def test_a_function_is_one_metric_that_is_higher_for_harder_samples(own: Own) -> None:
    """Softmax .5, .5 is sqrt(.5) from its label; a sure mistake is sqrt(2) from it."""
    scorer = find_scorer(own("el2n"))
    assert (dict(scorer.metrics), scorer.version) == ({"el2n": "higher"}, 1)
    column = scorer.score(LOGITS, TARGETS, CLASSIFICATION)["el2n"]
    assert column.tolist() == pytest.approx([0.5**0.5, 2**0.5])
    assert column.dtype == torch.float64


def test_another_source_or_version_is_another_question(own: Own) -> None:
    first = find_scorer(own("SCORER")).identity
    assert (first["version"], len(first["code"])) == (3, 64)
    changed = find_scorer(own("SCORER", f"{EL2N}\n# changed\n")).identity
    assert {**changed, "code": first["code"]} == first
    assert changed != first
    assert find_scorer("uncertainty") is UNCERTAINTY
    assert UNCERTAINTY.identity == {"name": "uncertainty", "version": 1}, "keys of what exists stay"


@pytest.mark.parametrize(
    ("thing", "body", "error", "words"),
    [
        ("nothing", "", UnknownScorer, "cannot be imported: .*nothing"),
        ("x", "x = 3", UnknownScorer, "is a int; expected a function score"),
        ("f", "raise RuntimeError('not today')", ScorerFailed, "Scorer .* failed: RuntimeError: not today"),
        ("f", "def f(o, t, task): return 1 / 0", ScorerFailed, "(?s)failed: ZeroDivisionError.*in f"),
        ("f", "def f(o, t, task): return o", ScoreError, r"returned \(2, 2\) for f; expected a tensor of 2 numbers"),
        ("f", "def f(o, t, task): return [1, 2]", ScoreError, "returned list for f; expected a tensor"),
        (
            "S",
            "from tamis.training import Scorer\nS = Scorer('s', 1, {'a': 'up'}, (), frozenset(), print)",
            ScoreError,
            "declares the metrics {'a': 'up'}; expected",
        ),
        (
            "S",
            "from tamis.training import Scorer\nS = Scorer('s', 1, {'a': 'lower'}, (), frozenset({'boxes'}), print)",
            ScoreError,
            "unknown boxes",
        ),
        (
            "S",
            "from tamis.training import Scorer\nS = Scorer('s', 1, {'a': 'lower'}, (), set(), lambda *_: {'b': 0})",
            ScoreError,
            "returned b; expected a dict with a",
        ),
    ],
)
def test_what_is_wrong_is_said(own: Own, thing: str, body: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        find_scorer(own(thing, body)).score(LOGITS, TARGETS, CLASSIFICATION)


def test_a_scorer_that_needs_labels_says_so(own: Own) -> None:
    body = "from tamis.training import Scorer\nS = Scorer('s', 1, {'a': 'lower'}, (), frozenset(), print)"
    with pytest.raises(ScoreError, match="needs labels"):
        find_scorer(own("S", body)).score(LOGITS, None, CLASSIFICATION)


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(UnknownScorer, match=r"mean 'uncertainty'\? There are: uncertainty, el2n; .*module:function"):
        find_scorer("uncertanty")
