"""What every method of choosing promises, over every entry of METHODS and every setting of its switches.

A new method is held to this without a line being added here, as long as its inputs are among those that
`inputs` makes.
"""

import inspect
import itertools
import json
import re
import sys
from typing import Any

import numpy as np
import pytest

from tamis.curation import METHODS, BudgetError, Choice, CurationError, Inputs, Method, parameters

N = 40
SECTIONS = ["What it does:", "When to use it:", "Cost:", "Departures from the paper:", "Reference:"]


def settings(method: Method) -> list[dict[str, Any]]:
    """Every combination of a method's switches, the rest left at their defaults."""
    switches = [name for name, default in parameters(method).items() if isinstance(default, bool)]
    values = itertools.product([False, True], repeat=len(switches))
    return [dict(zip(switches, chosen, strict=True)) for chosen in values]


def label(case: tuple[Method, dict[str, Any]]) -> str:
    method, chosen = case
    return "-".join([method.name, *(name for name, on in chosen.items() if on)])


CASES = [(method, chosen) for method in METHODS.values() for chosen in settings(method)]
EVERY_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
EVERY_CASE = pytest.mark.parametrize(("method", "chosen"), CASES, ids=map(label, CASES))
EVERY_RANKING_CASE = pytest.mark.parametrize(
    ("method", "chosen"),
    [case for case in CASES if "scores" in case[0].needs],
    ids=[label(case) for case in CASES if "scores" in case[0].needs],
)


def inputs(models: int = 1, n: int = N, seed: int = 0) -> Inputs:
    """Candidates with distinct scores, three classes of different sizes, and all predictions correct."""
    generator = np.random.default_rng(seed)
    scores_MN = np.stack([generator.permutation(n) / n for _ in range(models)])
    return Inputs(n, generator.choice(3, size=n, p=[0.6, 0.3, 0.1]), scores_MN, np.ones((models, n), bool))


def with_scores(given: Inputs, scores_MN: np.ndarray) -> Inputs:
    return Inputs(given.n, given.labels_N, scores_MN, given.correct_MN)


def run(method: Method, given: Inputs, k: int, chosen: dict[str, Any], seed: int = 0) -> Choice:
    return method.function(given, k=k, generator=np.random.default_rng(seed), **chosen)


def same(one: Choice, other: Choice) -> bool:
    return (
        np.array_equal(one.samples, other.samples)
        and np.array_equal(one.weights, other.weights)
        and (one.scores is None) == (other.scores is None)
        and (one.scores is None or np.array_equal(one.scores, other.scores))
        and one.excluded == other.excluded
    )


@EVERY_CASE
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("k", [1, 2, 17, N - 1, N])
def test_size_unique_valid_samples_finite_weights(method: Method, chosen: dict[str, Any], models: int, k: int) -> None:
    choice = run(method, inputs(models), k, chosen)
    assert choice.samples.dtype == np.int64
    assert choice.samples.shape == (k,)
    assert len(set(choice.samples.tolist())) == k
    assert choice.samples.min() >= 0
    assert choice.samples.max() < N
    assert choice.weights.dtype == np.float32
    assert choice.weights.shape == (k,)
    assert np.isfinite(choice.weights).all()
    assert choice.excluded == 0
    if choice.scores is not None:
        assert choice.scores.dtype == np.float64
        assert choice.scores.shape == (k,)
        assert np.isfinite(choice.scores).all()


@EVERY_CASE
@pytest.mark.parametrize("models", [1, 3])
def test_rank_order_is_score_then_sample(method: Method, chosen: dict[str, Any], models: int) -> None:
    choice = run(method, inputs(models), 30, chosen)
    if choice.scores is not None:
        keys = list(zip((-choice.scores).tolist(), choice.samples.tolist(), strict=True))
        assert keys == sorted(keys)


@EVERY_CASE
def test_one_candidate(method: Method, chosen: dict[str, Any]) -> None:
    assert run(method, inputs(n=1), 1, chosen).samples.tolist() == [0]


@EVERY_CASE
@pytest.mark.parametrize("k", [0, -1, N + 1, 10**12, 2.5, "3", True])
def test_a_budget_out_of_range_is_refused(method: Method, chosen: dict[str, Any], k: Any) -> None:
    with pytest.raises(BudgetError, match="expected"):
        run(method, inputs(), k, chosen)


@EVERY_CASE
@pytest.mark.parametrize("models", [1, 2])
def test_same_seed_same_answer(method: Method, chosen: dict[str, Any], models: int) -> None:
    first, second = (run(method, inputs(models), 17, chosen, seed=5) for _ in range(2))
    assert same(first, second)


@EVERY_CASE
def test_global_random_state_is_neither_read_nor_changed(method: Method, chosen: dict[str, Any]) -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].tolist()
    first = run(method, inputs(), 17, chosen)
    assert np.random.get_state()[1].tolist() == before
    np.random.seed(2)
    assert same(first, run(method, inputs(), 17, chosen))


@EVERY_CASE
def test_inputs_are_left_as_they_were(method: Method, chosen: dict[str, Any]) -> None:
    given = inputs(2)
    for array in (given.labels_N, given.scores_MN, given.correct_MN):
        assert array is not None
        array.flags.writeable = False
    run(method, given, 17, chosen)


@EVERY_RANKING_CASE
@pytest.mark.parametrize("seed", range(5))
def test_row_permutation_equivariance(method: Method, chosen: dict[str, Any], seed: int) -> None:
    given = inputs()
    assert given.labels_N is not None
    assert given.scores_MN is not None
    assert given.correct_MN is not None
    order = np.random.default_rng(seed).permutation(N)
    moved = Inputs(N, given.labels_N[order], given.scores_MN[:, order], given.correct_MN[:, order])
    choice, after = run(method, given, 17, chosen), run(method, moved, 17, chosen)
    assert order[after.samples].tolist() == choice.samples.tolist()
    assert after.weights.tolist() == choice.weights.tolist()


@EVERY_RANKING_CASE
def test_equal_scores_go_to_the_lower_samples(method: Method, chosen: dict[str, Any]) -> None:
    given = with_scores(inputs(), np.zeros((1, N)))
    samples = run(method, given, N, chosen).samples.tolist()
    assert samples == list(range(N))


@EVERY_RANKING_CASE
@pytest.mark.parametrize("models", [1, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_left_out_and_counted(
    method: Method, chosen: dict[str, Any], models: int, bad: float
) -> None:
    given = inputs(models)
    assert given.scores_MN is not None
    scores_MN = given.scores_MN.copy()
    scores_MN[0, [3, 11]] = bad
    scores_MN[-1, [11, 29]] = bad
    choice = run(method, with_scores(given, scores_MN), N - 3, chosen)
    assert choice.excluded == 3
    assert set(choice.samples.tolist()) == set(range(N)) - {3, 11, 29}
    with pytest.raises(CurationError, match="NaN or infinite"):
        run(method, with_scores(given, scores_MN), N - 2, chosen)


@EVERY_RANKING_CASE
def test_nothing_but_nan_is_refused(method: Method, chosen: dict[str, Any]) -> None:
    with pytest.raises(CurationError, match="NaN or infinite"):
        run(method, with_scores(inputs(), np.full((1, N), np.nan)), 1, chosen)


@EVERY_METHOD
def test_what_it_needs_is_all_it_needs(method: Method) -> None:
    given, names = inputs(), {"labels": "labels_N", "scores": "scores_MN", "correct": "correct_MN"}
    assert method.needs <= set(names)
    only = {names[need]: getattr(given, names[need]) for need in method.needs}
    assert len(run(method, Inputs(N, **only), 3, {}).samples) == 3
    for need in method.needs:
        rest = {name: array for name, array in only.items() if name != names[need]}
        with pytest.raises(CurationError, match=need):
            run(method, Inputs(N, **rest), 3, {})


@EVERY_METHOD
def test_its_parameters_are_keyword_only_plain_values_with_defaults(method: Method) -> None:
    signature = inspect.signature(method.function).parameters
    kinds = {name: parameter.kind for name, parameter in signature.items()}
    assert kinds.pop("inputs") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}
    assert {"k", "generator"} <= set(kinds)
    own = parameters(method)
    assert set(own) == set(kinds) - {"k", "generator"}
    assert inspect.Parameter.empty not in own.values()
    assert json.loads(json.dumps(own, allow_nan=False)) == own


@EVERY_METHOD
def test_its_parameters_are_described_on_one_line_each(method: Method) -> None:
    described = inspect.getdoc(method.function)
    assert described is not None
    arguments = described.split("Args:\n")[1].split("\n\n")[0].splitlines()
    for name in ("k", "generator", *parameters(method)):
        (at,) = (i for i, line in enumerate(arguments) if re.match(rf"    {name}: \S", line))
        assert at + 1 == len(arguments) or re.match(r"    \S", arguments[at + 1]), f"{name} takes two lines"


@EVERY_METHOD
def test_its_module_is_a_method_card(method: Method) -> None:
    card = sys.modules[method.function.__module__].__doc__
    assert card is not None
    found = [line for line in card.splitlines() if line in SECTIONS]
    assert found == SECTIONS


@EVERY_METHOD
def test_its_entry_is_whole(method: Method) -> None:
    assert METHODS[method.name] is method
    assert re.fullmatch(r"[a-z][a-z0-9-]*", method.name)
    assert method.version >= 1
    assert method.summary
    assert "\n" not in method.summary


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.rounds is not None])
def test_rounds_begin_with_the_one_choice_and_go_on_with_others(name: str) -> None:
    method, inputs = METHODS[name], Inputs(n=60)
    assert method.rounds is not None
    one = method.function(inputs, k=12, generator=np.random.default_rng(3))
    first, *others = itertools.islice(method.rounds(inputs, k=12, generator=np.random.default_rng(3)), 5)
    assert np.array_equal(first.samples, one.samples)
    assert all(len(np.unique(other.samples)) == 12 for other in others)
