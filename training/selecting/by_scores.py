"""Making a selection from what the store has: scores in, a published selection out.

The key says what would be computed (dataset, method, its parameters, the runs whose scores it reads, seed). When that
selection is there already nothing is read but its head.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from threadpoolctl import threadpool_limits

from tamis.curation.budget import resolve_budget
from tamis.curation.contract import Choice, Inputs, Method, Need
from tamis.curation.errors import CurationError
from tamis.curation.methods import METHODS
from tamis.curation.parameters import recorded
from tamis.curation.ranking import rank_correlation
from tamis.store import Store
from tamis.store.advice import command
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.store.keys import check_name
from tamis.store.runs import FINISHED, Run
from tamis.store.selections import Published, Request, RoundData
from tamis.training import border
from tamis.training.selecting import by_losses
from tamis.training.selecting.answers import Computed, answer
from tamis.training.selecting.own import find_method
from tamis.training.signals.alike import alike

MEASURES = ("entropy", "margin", "confidence", "loss")  # what scoring by a model gives to rank by; imports have others
_STORED: frozenset[Need] = frozenset(
    {"labels", "scores", "correct", "features", "losses"}
)  # the signals that the store has


class SelectConfig(BaseModel):
    """What to select.

    Attributes:
        dataset: "name" or "name@version".
        method: a name in `tamis.curation.methods.METHODS`, or a method of one's own as "module:function".
        budget: "40%", 0.4 or 20000.
        measure: which score ranks, for methods that need scores: one of MEASURES, a metric of another scorer or of an
            import. None: the method's usual one, which is "entropy" for most.
        scores: keys of scoring runs; several are an ensemble. Empty: the newest run that scored this version.
        features: key of a run of features, for methods that need them. None: the newest run of this version.
        run: key of a run with losses, for methods that need them. None: the newest run with losses of this version.
        params: the method's own parameters; what is absent has the method's default.
        seed: of the method's generator.
        rounds: how many times to choose, for methods that can choose anew.
        every: epochs that each round is in force.
        name: the selection's name; None: dataset-measure, or dataset-method.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    method: str = "uncertainty"
    budget: str | int | float
    measure: str | None = None
    scores: tuple[str, ...] = ()
    features: str | None = None
    run: str | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=0, ge=0, le=border.LARGEST)
    rounds: int = Field(default=1, ge=1, le=2000)  # the first epoch of the last fits 31 bits
    every: int = Field(default=20, ge=1, le=border.EPOCHS)
    name: str | None = None


def select(store: Store, config: SelectConfig, *, force: bool = False) -> Published:
    """Choose samples and publish them.

    Args:
        store: the store.
        config: what to select.
        force: choose again where the selection is there already, and say whether it comes out the same.

    Raises:
        UnknownMethodError, BudgetError, CurationError: the method's own refusals.
        UnknownOwnMethod, MethodFailed, ContractError: what is wrong with a method of one's own.
        RunNotFound: there are no scores of this dataset version.
    """
    dataset = store.datasets.get(config.dataset)
    method, code = find_method(config.method)
    _check_needs(method)
    measure = method.measure or config.measure or method.usual
    k = resolve_budget(config.budget, dataset.samples)
    own = recorded(method, config.params)
    runs = _runs(store, dataset, config, measure) if "scores" in method.needs else []
    params = {"k": k, **own, **({"measure": measure} if runs else {})}
    if code is not None:
        params["code"] = code
    if config.rounds > 1:
        params |= {"rounds": config.rounds, "every": config.every}
    seen = features_run(store, dataset, config.features) if "features" in method.needs else None
    lost = by_losses.run_of(store, dataset, config.run) if "losses" in method.needs else None
    if lost is not None:
        params["epoch"] = store.runs.last_epoch(lost.key)
    inputs = [r.key for r in (*runs, seen, lost) if r is not None]
    request = Request(dataset, method.name, method.version, params, inputs, config.seed)
    name = check_name(config.name or _default_name(dataset, config, measure if runs else None), "selection")

    def compute() -> Computed:
        started = perf_counter()
        given = _inputs(store, dataset, measure, runs, seen, own)
        given = given if lost is None else by_losses.with_losses(store, given, lost)
        with threadpool_limits(1, user_api="blas"):  # threads of BLAS wait for each other at every small product
            choices = _choose(method, config.rounds, given, k, own, config.seed)
        costs = _costs(store, runs, seen, lost) | {"select": perf_counter() - started}
        rounds = [RoundData(c.samples, c.weights, i * config.every, c.objective) for i, c in enumerate(choices)]
        return Computed(rounds, costs, {**choices[0].notes, "excluded": choices[0].excluded})

    return answer(store, request, name, compute, force=force)


def _choose(method: Method, rounds: int, inputs: Inputs, k: int, own: Mapping[str, Any], seed: int) -> list[Choice]:
    generator = _generator(seed, method)
    if rounds == 1:
        return [method.select(inputs, k=k, **own, generator=generator)]
    if method.rounds is None:
        able = ", ".join(name for name, other in METHODS.items() if other.rounds is not None)
        raise CurationError(f"Method {method.name} selects once: {able} can make {rounds} rounds.")
    return list(islice(method.rounds(inputs, k=k, **own, generator=generator), rounds))


def newest_scores(store: Store, dataset: Dataset, measure: str = "entropy") -> Run:
    """The scoring run of this dataset version that finished last, of those that have a measure.

    Raises:
        RunNotFound: nothing scored this version yet.
    """
    refs = alike(store, dataset)
    scored = [r for r in store.runs.all() if r.kind == "score" and r.status == FINISHED and r.dataset in refs]
    found = [r for r in scored if measure in _metrics(r)]
    if scored and not found:
        raise RunNotFound(
            f"No scoring run of {dataset.ref} has the measure {measure!r}. "
            f"{command(store.root, 'run', 'ls', '--kind', 'score')} lists the runs with scores."
        )
    if not found:
        scoring = command(store.root, "score", "uncertainty", "--dataset", dataset.ref, "--proxy", "preact20")
        raise RunNotFound(f"Nothing has scored {dataset.ref} yet. Score it first, with a proxy model: {scoring}")
    return found[-1]


def _metrics(run: Run) -> Collection[str]:
    """What a scoring run may be ranked by: imports list it, scorers say which way each is hard."""
    hard = run.config.get("hard")
    return run.config.get("metrics") or (hard if isinstance(hard, dict) else MEASURES)


def compare_scores(store: Store, runs: Sequence[str], measure: str) -> NDArray[np.float64]:
    """How alike scoring runs rank the samples that all of them gave a finite score.

    Args:
        store: the store.
        runs: keys of finished scoring runs of one dataset version, M of them.
        measure: "entropy", "margin", "confidence" or "loss".

    Returns:
        [M, M] Pearson correlation of the ranks.

    Raises:
        CurationError: fewer than two runs, or of different datasets.

    Source: Selection via Proxy, figure 3.
    """
    found = [store.runs.get(key) for key in runs]
    datasets = sorted({run.dataset for run in found})
    if len(found) < 2 or len(datasets) > 1:
        raise CurationError(
            f"{len(found)} runs of {', '.join(datasets)} cannot be compared: give two or more scoring runs of one "
            "dataset version."
        )
    count = store.datasets.get(datasets[0]).samples
    scores_MN = np.stack([store.runs.scores(run.key, measure, count) for run in found])
    return rank_correlation(scores_MN[:, np.isfinite(scores_MN).all(axis=0)])


def _runs(store: Store, dataset: Dataset, config: SelectConfig, measure: str) -> list[Run]:
    if not config.scores:
        return [newest_scores(store, dataset, measure)]
    runs = sorted((store.runs.get(key) for key in config.scores), key=lambda r: r.key)
    if len({r.key for r in runs}) < len(runs):
        raise CurationError("A scoring run is listed twice: an ensemble counts each run once.")
    for run in runs:
        if run.kind != "score" or run.dataset not in alike(store, dataset):
            raise RunNotFound(
                f"Run {run.key[:12]} is a {run.kind} of {run.dataset}, not a scoring run of {dataset.ref}. "
                f"{command(store.root, 'run', 'ls', '--kind', 'score')} lists the runs with scores."
            )
    return runs


def _check_needs(method: Method) -> None:
    beyond = sorted(method.needs - _STORED)
    if beyond:
        raise CurationError(
            f"method {method.name} needs {' and '.join(beyond)}, which are not in the store: they come from a model "
            "during selection (`MatchConfig`, `TrainConfig.reselect`; tamis select gradmatch)"
        )


def _default_name(dataset: Dataset, config: SelectConfig, measure: str | None) -> str:
    last = re.sub(r"[^a-z0-9._-]+", "-", config.method.rpartition(":")[2].lower())
    return f"{dataset.name}-{measure if measure and config.method == 'uncertainty' else last}"


def features_run(store: Store, dataset: Dataset, key: str | None = None) -> Run:
    """The run of this key, whose features are asked for, or the one of this dataset version that finished last.

    Raises:
        RunNotFound: there are none, or they are of another dataset version.
    """
    refs = alike(store, dataset)
    if key is not None:
        run = store.runs.get(key)
        if run.kind != "features" or run.dataset not in refs:
            raise RunNotFound(
                f"Run {run.key[:12]} is a {run.kind} of {run.dataset}, not features of {dataset.ref}. "
                f"{command(store.root, 'run', 'ls', '--kind', 'features')} lists the runs with features."
            )
        return run
    found = [r for r in store.runs.all() if r.kind == "features" and r.status == FINISHED and r.dataset in refs]
    if not found:
        computing = command(store.root, "score", "features", "--dataset", dataset.ref, "--model-run", "KEY")
        raise RunNotFound(f"There are no features of {dataset.ref} yet. Compute them with a trained model: {computing}")
    return found[-1]


def _inputs(
    store: Store, dataset: Dataset, measure: str, runs: list[Run], seen: Run | None, own: Mapping[str, Any]
) -> Inputs:
    """Only what is asked for is read."""
    n = dataset.samples
    scores = [store.runs.hardness(r.key, measure, n) for r in runs]
    correct = [store.runs.scores(r.key, "correct", n) == 1 for r in runs] if own.get("correct_only") else []
    return Inputs(
        n=n,
        labels_N=dataset.labels() if dataset.has_classes else None,
        scores_MN=np.stack(scores) if scores else None,
        correct_MN=np.stack(correct) if correct else None,
        features_NE=None if seen is None else store.runs.features(seen.key, dataset),
    )


def _generator(seed: int, method: Method) -> np.random.Generator:
    """Every purpose draws from a stream of its own."""
    return np.random.default_rng(np.random.SeedSequence([seed, *method.name.encode()]))


def _costs(store: Store, runs: list[Run], seen: Run | None, lost: Run | None) -> dict[str, float]:
    """What the signals cost, s: the passes over the dataset, and the training of the models behind them, once each."""
    passes = [r for r in (*runs, seen, lost) if r is not None and r.kind != "train"]
    looked = {r.config[who] for r in passes for who in ("student", "teacher") if r.config.get(who)}
    passes += [run for key in sorted(looked) if (run := store.runs.find(key)) is not None]  # whose boxes were scored
    trainings = {r.config["model_run"] for r in passes if r.config.get("model_run")}
    trainings |= {lost.key} if lost is not None and lost.kind == "train" else set()
    return {
        "score": sum(r.seconds.get("total", 0.0) for r in passes),
        "proxy": sum(store.runs.get(t).seconds.get("total", 0.0) for t in trainings),
    }
