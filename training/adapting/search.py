"""A search for the prioritisation function with the least hold-out error: AdaptSB.

What: a `Search` proposes trials round by round, has them done (`tamis.training.adapting.trials`), and publishes the
best as a stored function, with the search as its lineage. The trials' records are all that it knows, so it may be
killed and asked again, and several processes may search together: what one has done the others find.
How: the proposals of a round follow from the trials of the rounds before (`tamis.training.adapting.proposals`), so the
same search comes to the same trials however many processes and machines shared it. Their number is no part of a trial's
key: a longer search begins with the trials of a shorter one.
Hold-out: a part of the training data that is split off and not trained on, or a dataset of its own, which must have no
sample in common with the training data. A test set is for the training run after the search.
Departures from the thesis: its search took 300 trials of two hours on 15 machines, all proposed at once; a proposal
here waits for the round before it. Its training data and hold-out are not described.
Source: A. Jiang, thesis, 2021, chapter 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.overlap import samples_in_common
from tamis.store.keys import check_name, key_of
from tamis.store.priorities import StoredPriority
from tamis.store.runs import FINISHED, Run
from tamis.training.adapting.config import AdaptConfig, AdaptOptions
from tamis.training.adapting.proposals import Proposal, load_optuna, propose, rounds
from tamis.training.adapting.shapes import Shape
from tamis.training.adapting.trials import Trials, trial_config
from tamis.training.errors import SearchError
from tamis.training.planning import plan

KIND = "adapt"
VERSION = 1  # of how is searched
_APART = ("trials", "name", "segments", "patience", "holdout")  # what does not decide a trial; its key has the hold-out
_ALL_ALIKE = {"version": 1, "kind": "linear", "values": [1.0, 1.0], "points": [0.0, 1.0]}


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        search: its run.
        priority: the function that was found.
        cached: nothing was computed.
    """

    search: Run
    priority: StoredPriority
    cached: bool


def pinned(store: Store, config: AdaptConfig) -> AdaptConfig:
    """A search with its training data and hold-out as datasets, the hold-out split off where it is a share.

    Raises:
        SearchError: the hold-out has samples of the training data, or is no share.
        DatasetNotFound: naming what there is.
    """
    dataset, share = store.datasets.get(config.train.dataset), _share(config.holdout)
    if share is None:
        holdout = store.datasets.get(config.holdout)
        _check_apart(dataset, holdout)
    else:
        dataset, holdout = _split(store, dataset, share, config.train.seed)
    train = config.train.model_copy(update={"dataset": dataset.ref})
    name = config.name or f"{store.datasets.get(config.train.dataset).name}-adaptsb"
    return config.model_copy(update={"train": train, "holdout": holdout.ref, "name": check_name(name, "priority")})


class Search:
    """A search that is under way, or was.

    Args:
        store: the store.
        config: what is searched for; `pinned` first.

    Attributes:
        config: of the search.
        trials: its records.
    """

    def __init__(self, store: Store, config: AdaptConfig) -> None:
        self.store, self.config = store, config
        probe = trial_config(config, store.datasets.get(config.train.dataset).samples, _ALL_ALIKE)
        made = plan(store, probe)
        options = config.model_dump(mode="json", include=set(AdaptOptions.model_fields) - {*_APART})
        self._payload = {"version": VERSION, "trial": made.key, "options": options}
        self.trials = Trials(store, config, made.dataset.samples, key_of("adapt-space", self._payload))
        self.key = key_of(KIND, self._payload | {"trials": config.trials})
        self._dataset, self._proposing = made.dataset, 0.0
        self._proposed: dict[int, Proposal] = {}

    def find(self) -> Found | None:
        """The answer, where it is there."""
        run = self.store.runs.find(self.key)
        return None if run is None else Found(run, self._publish(run), cached=True)

    def begin(self) -> None:
        """Say that it is under way.

        Raises:
            ExtraMissing: the sampler needs Optuna, which is not installed.
        """
        if self.config.sampler != "random":
            load_optuna()
        self.store.runs.begin(
            kind=KIND, key=self.key, dataset=self._dataset.ref, model=self.config.train.model,
            config=self.config.model_dump(mode="json") | {"space": self.trials.space},
        )  # fmt: skip

    def open(self) -> list[tuple[int, Proposal]]:
        """Trials of the present round that have not ended, and what they try; none where the search is over."""
        before = list[int]()
        for numbers in rounds(self.config):
            left = [number for number in numbers if self.trials.told(number) is None]
            if left:
                return [(number, self._proposal(numbers, before, number)) for number in left]
            before += numbers
        return []

    def do(
        self, number: int, proposal: Proposal, device: str = "auto", progress: Callable[[int, int], None] | None = None
    ) -> bool:
        """Do a trial, unless it is done or somebody else is at it; whether it was done here."""
        before = next(range(one.start) for one in rounds(self.config) if number in one)
        return self.trials.do(number, proposal, before=before, device=device, progress=progress)

    def finish(self) -> Found:
        """Publish the best function.

        Raises:
            SearchError: no trial came to an end.
        """
        run = self.store.runs.finish(self.key, metrics=self._result(), seconds=self._books())
        return Found(run, self._publish(run), cached=False)

    def _proposal(self, numbers: range, before: list[int], number: int) -> Proposal:
        """What was recorded comes first: a trial that was begun keeps to what it began with."""
        there = self.trials.proposed(number)
        if there is None and number not in self._proposed:
            started = perf_counter()
            told = [one for at in before if (one := self.trials.told(at)) is not None]
            dimensions = Shape.of(self.config).dimensions
            made = propose(self.config, numbers, told, dimensions=dimensions, seed=self.config.train.seed)
            self._proposed = dict(zip(numbers, made, strict=True))
            self._proposing += perf_counter() - started
        return self._proposed[number] if there is None else there

    def _records(self) -> list[Run]:
        return [run for number in range(self.config.trials) if (run := self.trials.record(number)) is not None]

    def _result(self) -> dict[str, Any]:
        records = self._records()
        ended = [run for run in records if run.status == FINISHED]
        complete = [run for run in ended if run.metrics["state"] == "complete"]
        if not complete:
            errors = sorted({run.error for run in records if run.error})
            raise SearchError(
                f"None of the {len(records)} trials came to an end, so there is no function to choose: "
                f"{'; '.join(errors[:3]) or 'all were pruned'}. Mend what they ran into, and search with another seed."
            )
        best = min(complete, key=lambda run: (run.metrics["value"], run.config["trial"]))
        return {
            "trial": best.config["trial"], "value": best.metrics["value"], "priority": best.config["priority"],
            "run": best.metrics["run"], "complete": len(complete), "pruned": len(ended) - len(complete),
            "failed": len(records) - len(ended),
        }  # fmt: skip

    def _books(self) -> dict[str, float]:
        """Seconds of all trials, whoever did them, and of proposing here. A run that two trials are is paid once."""
        runs = {run.metrics.get("run", run.key): run.seconds for run in self._records() if run.status == FINISHED}
        books: dict[str, float] = {}
        for seconds in runs.values():
            books = {part: books.get(part, 0.0) + seconds.get(part, 0.0) for part in books | seconds}
        trained = books.pop("total", 0.0)
        return {**books, "trials": trained, "propose": self._proposing, "total": trained + self._proposing}

    def _publish(self, run: Run) -> StoredPriority:
        assert self.config.name is not None
        stats = {name: run.metrics[name] for name in ("value", "run")} | {
            "dataset": run.dataset, "holdout": self.config.holdout, "seconds": run.seconds["total"],
        }  # fmt: skip
        return self.store.priorities.publish(
            self.config.name, run.metrics["priority"], search=run.key, trial=run.metrics["trial"], stats=stats
        )


def _share(text: str) -> float | None:
    """A share of the training data; None where the text is none, and names a dataset."""
    number, percent, rest = text.partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        return None
    if rest or not 0 < share < 1:
        raise SearchError(f"The hold-out is {text!r}: expected a dataset, or a share above 0 and below 1, such as 10%.")
    return share


def _split(store: Store, dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """What is trained on and what is held out, each class by the same share."""
    of = f"adapt-v{dataset.version}-{share:g}-s{seed}"
    into = {f"{of}-train": 1 - share, f"{of}-holdout": share}
    fit, held = store.datasets.split(dataset.ref, into, seed=seed, stratify=dataset.has_classes)
    return fit, held


def _check_apart(dataset: Dataset, holdout: Dataset) -> None:
    common = samples_in_common(holdout, dataset)
    if common:
        raise SearchError(
            f"{common} of the {holdout.samples} samples of the hold-out {holdout.ref} are in {dataset.ref} too: a "
            "function would be judged by what it was trained on. Give a dataset that was set apart (tamis dataset "
            "split), or a share such as 10%."
        )
