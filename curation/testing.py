"""What every method of choosing promises, as checks that a method of one's own can be held to.

    from tamis.curation.testing import CHECKS, check_method

    check_method(METHOD)                                        # all of them; the first that fails raises

    @pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
    def test_my_method(check):                                  # or one test each
        check(METHOD)

A check calls the method on 40 made-up candidates, with every setting of its switches and choices, and raises
`ContractError` with what was promised. Methods that draw no random numbers are also held to not depending on the order
of the candidates, but for those that declare it (`Method.ordered`).
Cost: some dozen calls a check; a tenth of a second for a method that is as quick as those here.
Legend: N candidates, M models, C classes, E features, k chosen samples.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tamis.curation.contract import Choice, Inputs, Method, Need
from tamis.curation.errors import BudgetError, ContractError, CurationError
from tamis.curation.gradmatch.gradients import LastLayer
from tamis.curation.parameters import parameters

N = 40
_FIELDS: dict[Need, str] = {
    "labels": "labels_N", "scores": "scores_MN", "correct": "correct_MN", "gradients": "gradients_N",
    "features": "features_NE", "losses": "losses_EN",
}  # fmt: skip
_SPOILED = [3, 11, 29]  # candidates whose signal is not finite


def check_method(method: Method) -> None:
    """Hold a method to every check.

    Raises:
        ContractError: naming the method, the check and what was promised.
    """
    for check in CHECKS.values():
        check(method)


def check_choice(choice: object, *, n: int, k: int, of: str) -> Choice:
    """The choice, if it is one of `k` of `n` candidates.

    Args:
        choice: what a method returned.
        n, k: candidates, and how many were asked for.
        of: the method's name, for the message.

    Raises:
        ContractError: it is none; the message says what is wrong.
    """
    if not isinstance(choice, Choice):
        raise ContractError(f"{of} returned a {type(choice).__name__}; expected a tamis.curation.Choice")
    samples, weights = np.asarray(choice.samples), np.asarray(choice.weights)
    _promise(samples.dtype == np.int64 and samples.shape == (k,), of, f"samples int64 [{k}]", _form(samples))
    _promise(len(np.unique(samples)) == k, of, "each sample once", f"{k - len(np.unique(samples))} twice")
    inside = bool(samples.min() >= 0) and bool(samples.max() < n)
    _promise(inside, of, f"samples of 0 to {n - 1}", f"{samples.min()} to {samples.max()}")
    _promise(weights.dtype == np.float32 and weights.shape == (k,), of, f"weights float32 [{k}]", _form(weights))
    _promise(bool(np.isfinite(weights).all()), of, "finite weights", "NaN or infinities")
    if choice.scores is not None:
        scores = np.asarray(choice.scores)
        _promise(scores.dtype == np.float64 and scores.shape == (k,), of, f"scores float64 [{k}]", _form(scores))
        _promise(bool(np.isfinite(scores).all()), of, "finite scores", "NaN or infinities")
    return choice


def made_up(models: int = 1, n: int = N, seed: int = 0) -> Inputs:
    """Candidates with every signal: distinct scores, three classes of different sizes, all predictions correct."""
    generator = np.random.default_rng(seed)
    labels_N = generator.choice(3, size=n, p=[0.6, 0.3, 0.1])
    scores_MN = np.stack([generator.permutation(n) / n for _ in range(models)])
    features_NE = generator.normal(size=(n, 5)).astype(np.float32)
    residuals_NC = generator.dirichlet(np.ones(3), size=n) - np.eye(3)[labels_N]
    gradients = LastLayer(residuals_NC.astype(np.float32), features_NE)
    losses_EN = np.stack([generator.permutation(n) / n for _ in range(6)])
    correct_EN = generator.integers(0, 2, (6, n), np.int8)
    return Inputs(
        n, labels_N, scores_MN, np.ones((models, n), bool), gradients, features_NE=features_NE, losses_EN=losses_EN,
        correct_EN=correct_EN,
    )  # fmt: skip


@dataclass(frozen=True)
class _Case:
    """A method with a setting of its switches and choices."""

    method: Method
    chosen: dict[str, Any]

    @property
    def name(self) -> str:
        return " ".join([self.method.name, *(f"{name}={value}" for name, value in self.chosen.items())])

    def run(self, inputs: Inputs, k: Any, seed: int = 0) -> Choice:
        return self.method.select(inputs, k=k, generator=np.random.default_rng(seed), **self.chosen)

    def chooses(self, inputs: Inputs, k: int, seed: int = 0) -> Choice:
        return check_choice(self.run(inputs, k, seed), n=inputs.n, k=k, of=self.name)

    def refuses(self, inputs: Inputs, k: Any, error: type[CurationError], words: str, why: str) -> None:
        try:
            self.run(inputs, k)
        except error as refused:
            _promise(words in str(refused), self.name, f"a refusal that says {words!r}", repr(str(refused)))
        else:
            raise ContractError(f"{self.name} promised a {error.__name__} for {why}, and chose")

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers."""
        generator = np.random.default_rng(0)
        before = generator.bit_generator.state
        self.method.select(made_up(), k=17, generator=generator, **self.chosen)
        return generator.bit_generator.state != before


def cases(method: Method) -> Iterator[_Case]:
    """Every combination of a method's switches and choices, the rest left at their defaults."""
    own = parameters(method).values()
    values = {one.name: (False, True) if one.type is bool else one.choices for one in own if _switches(one)}
    for chosen in itertools.product(*values.values()):
        yield _Case(method, dict(zip(values, chosen, strict=True)))


def sizes(method: Method) -> None:
    """Exactly k samples, each once, with finite weights; with one model and with three; of one candidate, too."""
    for case, models, k in itertools.product(cases(method), (1, 3), (1, 2, 17, N - 1, N)):
        _promise(case.chooses(made_up(models), k).excluded == 0, case.name, "no sample left out", "some")
    for case in cases(method):
        case.chooses(made_up(n=1), 1)


def budgets(method: Method) -> None:
    """A budget that is no number of samples is refused by name."""
    for case, k in itertools.product(cases(method), (0, -1, N + 1, 10**12, 2.5, "3", True)):
        case.refuses(made_up(), k, BudgetError, "expected", f"k = {k!r}")


def same_answer(method: Method) -> None:
    """The same inputs and seed give the same answer, whatever the global random state, which is left as it was."""
    for case, models in itertools.product(cases(method), (1, 2)):
        first = case.run(made_up(models), 17, seed=5)
        np.random.seed(1)
        before = _global_state()
        second = case.run(made_up(models), 17, seed=5)
        untouched = np.array_equal(_global_state(), before)
        _promise(untouched, case.name, "to leave the global random state alone", "it changed")
        _promise(_same(first, second), case.name, "the same answer again", "another one")


def inputs_kept(method: Method) -> None:
    """What it is given is left as it was."""
    for case in cases(method):
        given = made_up(2)
        gradients = given.gradients("the check")
        assert isinstance(gradients, LastLayer)
        arrays = (
            given.labels_N, given.scores_MN, given.correct_MN, given.features_NE, gradients.residuals_NC,
            given.losses_EN, given.correct_EN,
        )  # fmt: skip
        for array in arrays:
            assert array is not None
            array.flags.writeable = False
        try:
            case.run(given, 17)
        except ValueError as error:
            raise ContractError(f"{case.name} promised to leave its inputs as they were: {error}") from error


def order(method: Method) -> None:
    """Ranked by score, best first, equal scores by sample; candidates in another order are the same choice."""
    for case in cases(method):
        choice = case.run(made_up(), 17)
        if choice.scores is not None:
            ranked = list(zip((-choice.scores).tolist(), choice.samples.tolist(), strict=True))
            _promise(ranked == sorted(ranked), case.name, "the order of score and sample", "another")
        if "scores" in method.needs:
            equal = replace(made_up(), scores_MN=np.zeros((1, N)))
            ties = case.run(equal, N).samples.tolist()
            _promise(ties == list(range(N)), case.name, "equal scores in the order of the samples", f"{ties}")
        if not case.draws and not method.ordered:
            _check_moved(case, choice)


def not_finite(method: Method) -> None:
    """Candidates whose score, gradient, feature or losses are not finite are left out and counted, never chosen."""
    signals = [need for need in ("scores", "gradients", "features", "losses") if need in method.needs]
    for case, need, bad in itertools.product(cases(method), signals, (np.nan, np.inf, -np.inf)):
        for models in (1, 3):
            given = _spoiled(made_up(models), need, _SPOILED, bad)
            choice = case.chooses(given, N - 3)
            _promise(choice.excluded == 3, case.name, "3 samples left out", f"{choice.excluded}")
            left = set(range(N)) - set(_SPOILED)
            _promise(set(choice.samples.tolist()) == left, case.name, "what is finite to be chosen", "others")
            case.refuses(given, N - 2, CurationError, "NaN or infinite", "more samples than are finite")
        nothing = _spoiled(made_up(), need, list(range(N)), bad)
        case.refuses(nothing, 1, CurationError, "NaN or infinite", f"nothing but {bad}")


def needs(method: Method) -> None:
    """What it needs is all that it needs, and it says what is missing."""
    case, given = _Case(method, {}), made_up()
    only = {_FIELDS[need]: getattr(given, _FIELDS[need]) for need in method.needs}
    case.chooses(Inputs(N, **only), 3)
    for need in method.needs:
        rest = {name: signal for name, signal in only.items() if name != _FIELDS[need]}
        case.refuses(Inputs(N, **rest), 3, CurationError, need, f"inputs without {need}")


def parameters_plain(method: Method) -> None:
    """Its parameters are keyword-only plain values with defaults; `parameters` says so where they are not."""
    defaults = {name: one.default for name, one in parameters(method).items()}
    again = json.loads(json.dumps(defaults, allow_nan=False))
    _promise(again == defaults, method.name, "defaults that are plain JSON", f"{defaults}")


def rounds(method: Method) -> None:
    """Where it chooses anew for each round, the first round is the one choice, and others follow."""
    if method.rounds is None:
        return
    for case in cases(method):
        one = case.run(made_up(n=60), 12, seed=3)
        endless = method.rounds(made_up(n=60), k=12, generator=np.random.default_rng(3), **case.chosen)
        first, *others = itertools.islice(endless, 4)
        _promise(np.array_equal(first.samples, one.samples), case.name, "to begin with its one choice", "another")
        for other in others:
            check_choice(other, n=60, k=12, of=f"{case.name}, a later round,")


def renewable(method: Method) -> None:
    """What is said to be renewed from what is stored needs nothing that only a model gives during selection."""
    fleeting = sorted(method.needs & {"gradients"})
    kept = method.renewal != "stored" or not fleeting
    _promise(kept, method.name, "to be renewable from what the store has", f"that it needs {', '.join(fleeting)}")


Check = Callable[[Method], None]
CHECKS: dict[str, Check] = {
    "sizes": sizes, "budgets": budgets, "same answer": same_answer, "inputs kept": inputs_kept, "order": order,
    "not finite": not_finite, "needs": needs, "parameters plain": parameters_plain, "rounds": rounds,
    "renewable": renewable,
}  # fmt: skip


def _switches(one: Any) -> bool:
    return one.type is bool or bool(one.choices)


def _check_moved(case: _Case, choice: Choice) -> None:
    """The same candidates in another order are the same choice, up to the rounding of sums."""
    given = made_up()
    for seed in range(3):
        moved = np.random.default_rng(seed).permutation(N)
        after = case.run(_moved(given, moved), 17)
        found, back, was = moved[after.samples], np.arange(17), np.arange(17)
        if choice.scores is None:  # what is not ranked may come in another order
            back, was = np.argsort(found), np.argsort(choice.samples)
        same = np.array_equal(found[back], choice.samples[was])
        alike = same and np.allclose(after.weights[back], choice.weights[was], rtol=1e-4)
        _promise(alike, case.name, "the same choice from candidates in another order", "another one")


def _moved(given: Inputs, order_N: Any) -> Inputs:
    gradients, labels, scores, correct = given.gradients("it"), given.labels("it"), given.scores("it"), given.correct_MN
    assert isinstance(gradients, LastLayer)
    assert correct is not None
    features = given.features("it")[order_N]
    moved = LastLayer(gradients.residuals_NC[order_N], gradients.features_NE[order_N])
    losses, right = given.losses("it")[:, order_N], given.correct_by_epoch("it")[:, order_N]
    return Inputs(
        given.n, labels[order_N], scores[:, order_N], correct[:, order_N], moved, features_NE=features,
        losses_EN=losses, correct_EN=right,
    )  # fmt: skip


def _spoiled(given: Inputs, need: str, rows: list[int], bad: float) -> Inputs:
    """Some candidates with a signal that is not finite: one model's scores, one number of a row, all losses."""
    if need == "scores":
        scores_MN = given.scores("it").copy()
        for place, row in enumerate(rows):
            scores_MN[place % len(scores_MN), row] = bad
        return replace(given, scores_MN=scores_MN)
    if need == "losses":
        losses_EN = given.losses("it").copy()
        losses_EN[:, rows] = bad
        return replace(given, losses_EN=losses_EN)
    features_NE = given.features("it").copy()
    features_NE[rows, 1] = bad
    if need == "features":
        return replace(given, features_NE=features_NE)
    gradients = given.gradients("it")
    assert isinstance(gradients, LastLayer)
    return replace(given, gradients_N=LastLayer(gradients.residuals_NC, features_NE))


def _global_state() -> Any:
    return np.random.get_state(legacy=False)["state"]["key"].copy()


def _same(one: Choice, other: Choice) -> bool:
    scores: list[Any] = [[] if choice.scores is None else choice.scores for choice in (one, other)]
    pairs = ((one.samples, other.samples), (one.weights, other.weights), scores)
    arrays = all(np.array_equal(a, b) for a, b in pairs)
    return arrays and (one.excluded, one.objective) == (other.excluded, other.objective)


def _form(array: Any) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _promise(kept: bool, of: str, promised: str, found: str) -> None:
    if not kept:
        raise ContractError(f"{of} promised {promised}; found {found}")
