"""Scoring a dataset with a model, part by part: a part is one shard under one model.

Parts are keyed by the shard's content, the model's digest, the scorer and where pixels changed with it the decoder's
version, and kept as files of their own. So a killed
pass goes on where it was, an appended shard costs only itself, and the same shard in two datasets is scored once. When
all parts are there they become a run, whose scores show in SQL at once and whole. Where an earlier version of the
dataset has such a run, its rows are taken over, and only the parts of the shards behind it are looked for.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tamis.store import Store
from tamis.store.datasets import Dataset, Shard
from tamis.store.keys import key_of
from tamis.store.runs import Run
from tamis.training.border import check_kind
from tamis.training.decoding.pixels import decoder_key, image_size_of, is_jpeg
from tamis.training.models.own import failing
from tamis.training.signals.parts import pack_part, read_part
from tamis.training.signals.scorers import UNCERTAINTY, Scorer

Columns = Mapping[str, npt.NDArray[Any]]
Batch = tuple[Columns, npt.NDArray[np.int64]]

_ROWS = 1 << 16  # samples of a batch that is kept at once
_BACK = 64  # versions that are looked at for scores


@dataclass(frozen=True)
class Scored:
    """The answer to a scoring.

    Attributes:
        run: the finished run that has the scores.
        cached: nothing was computed.
        parts: shards that were computed, and shards in all.
        confirmed: with `force`, whether every recomputed number is the stored one (to 1e-5); else None.
    """

    run: Run
    cached: bool
    parts: tuple[int, int]
    confirmed: bool | None = None


def score_key(dataset: Dataset, model: str, decoder: Mapping[str, int], scorer: Scorer = UNCERTAINTY) -> str:
    """The key of a scoring run.

    Args:
        dataset: the version that is scored.
        model: digest of the model's blob.
        decoder: from `decoder_of`.
        scorer: what is made of the model's outputs.
    """
    return _key(dataset.key, model, decoder, scorer)


def _key(dataset: str, model: str, decoder: Mapping[str, int], scorer: Scorer) -> str:
    return key_of("score", {"dataset": dataset, "model": model, "scorer": scorer.identity, **decoder})


def part_key(
    dataset: Dataset, shard: Shard, model: str, decoder: Mapping[str, int], scorer: Scorer = UNCERTAINTY
) -> str:
    """The key of one shard's scores."""
    payload = {"shard": shard.content, "image": dataset.image, "label": dataset.label, "model": model}
    return key_of("score-part", payload | {"scorer": scorer.identity} | dict(decoder))


def decoder_of(store: Store, dataset: Dataset, model: str) -> dict[str, int]:
    """What enters the keys of scores for their pixels' sake (`tamis.training.decoding.pixels`).

    A model is read only where it matters to what size it scales images: for JPEG.
    """
    return decoder_key((dataset.image, image_size_of(store.blobs.get(model)))) if is_jpeg(dataset.image) else {}


def missing_parts(store: Store, dataset: Dataset, model: str, scorer: Scorer = UNCERTAINTY) -> list[int]:
    """The shards, by number, that have no scores under this model yet."""
    decoder = decoder_of(store, dataset, model)
    there = _earlier(store, dataset, model, decoder, scorer).shards
    keys = {i: part_key(dataset, dataset.shards[i], model, decoder, scorer) for i in range(there, len(dataset.shards))}
    return [i for i, key in keys.items() if not store.root.exists(_name(key))]


def score_parts(
    store: Store,
    dataset: Dataset,
    shards: Sequence[int],
    model: str,
    *,
    device: str = "auto",
    batch_size: int = 256,
    force: bool = False,
    progress: Callable[[int], None] | None = None,
    scorer: Scorer = UNCERTAINTY,
) -> float:
    """Score some shards and keep their parts.

    Args:
        store: the store.
        dataset: the version that is scored.
        shards: numbers of shards.
        model: digest of the model's blob.
        device: "auto", "cpu", "cuda", ...
        batch_size: samples a forward pass.
        force: compute what is there already, and leave it as it is.
        progress: called with the number of samples just scored.
        scorer: what is made of the model's outputs.

    Returns:
        With `force`, the largest difference between a recomputed and a stored number (inf where only one is NaN);
        else 0.
    """
    check_kind("dataset", dataset, Dataset)
    from tamis.training.signals.outputs import load_model, score_shard

    module, meta = load_model(store, model)
    decoder, worst = decoder_key((dataset.image, meta.image_size)), 0.0
    for number in shards:
        name = _name(part_key(dataset, dataset.shards[number], model, decoder, scorer))
        stored = read_part(store, name)
        if stored is not None and not force:
            continue
        started = perf_counter()
        with failing(meta.model):
            made = score_shard(
                store, dataset, number, module, meta, device=device, batch_size=batch_size, scorer=scorer
            )
        columns = dict(made)
        if stored is None:
            store.root.put(name, pack_part({**columns, "seconds": np.asarray(perf_counter() - started)}))
        else:
            worst = max(worst, _difference(stored, columns))
        if progress is not None:
            progress(dataset.shards[number].count)
    return worst


def find_scores(store: Store, dataset: Dataset, model: str, scorer: Scorer = UNCERTAINTY) -> Run | None:
    """The finished run of this dataset under this model, or None. Runs no model."""
    return store.runs.find(score_key(dataset, model, decoder_of(store, dataset, model), scorer))


def finish_scores(
    store: Store,
    dataset: Dataset,
    model: str,
    *,
    name: str | None,
    model_run: str | None = None,
    scorer: Scorer = UNCERTAINTY,
) -> Run:
    """Make the run of parts that are all there.

    Args:
        store: the store.
        dataset: the version that was scored.
        model: digest of the model's blob.
        name: the model's name, for people.
        model_run: key of the run that trained the model.
        scorer: what was made of the model's outputs; which of its numbers mean a hard sample is kept with the run.
    """
    decoder = decoder_of(store, dataset, model)
    key = score_key(dataset, model, decoder, scorer)
    there = store.runs.find(key)
    if there is not None:
        return there
    config: dict[str, Any] = {"model": model, "model_run": model_run, "scorer": scorer.identity}
    config |= {"hard": dict(scorer.metrics)} | ({} if scorer is UNCERTAINTY else {"metrics": list(scorer.metrics)})
    store.runs.begin(kind="score", key=key, dataset=dataset.ref, model=name, config=config | decoder)
    tally = _Tally(scorer.metrics)
    earlier = _earlier(store, dataset, model, decoder, scorer)
    tally.begin(earlier.run)
    fresh = _batches(store, dataset, model, decoder, scorer, tally, earlier.shards)
    store.runs.put_score_batches(key, _together(fresh), behind=None if earlier.run is None else earlier.run.key)
    return store.runs.finish(key, metrics=tally.metrics(), seconds={"total": tally.seconds}, model=model)


class _Earlier(NamedTuple):
    """The finished run of an earlier version, whose scores are the first ones here, and how many shards it has."""

    run: Run | None = None
    shards: int = 0


def _earlier(store: Store, dataset: Dataset, model: str, decoder: Mapping[str, int], scorer: Scorer) -> _Earlier:
    """Of the newest version before this one that was scored: a version has the shards of those before it."""
    for version in range(dataset.version - 1, max(0, dataset.version - 1 - _BACK), -1):
        head = store.datasets.head(dataset.name, version)
        run = store.runs.find(_key(head["key"], model, decoder, scorer))
        if run is not None and store.runs.has_scores(run.key):
            return _Earlier(run, int(head["shards"]))
    return _Earlier()


class _Tally:
    """What is worth knowing about a pass, gathered part by part; a sample whose first metric is NaN is counted."""

    def __init__(self, metrics: Iterable[str]) -> None:
        self._metrics, self._judged = tuple(metrics), False
        self.samples = self.correct = self.nonfinite = 0
        self.first: list[int] = []
        self.seconds = 0.0

    def begin(self, run: Run | None) -> None:
        """Go on from a run whose scores come first."""
        if run is None:
            return
        said = run.metrics
        self.samples, self._judged = said["samples"], "accuracy" in said
        self.correct = round(said.get("accuracy", 0) * self.samples)
        self.nonfinite, self.first = said.get("nonfinite", 0), list(said.get("nonfinite_samples", ()))
        self.seconds = run.seconds.get("total", 0.0)

    def add(self, first_sample: int, columns: Columns) -> None:
        values = columns[next(metric for metric in self._metrics if metric in columns)]
        bad = np.flatnonzero(~np.isfinite(values))
        self.samples += len(values)
        self.nonfinite += len(bad)
        self.first = [*self.first, *(int(b) + first_sample for b in bad)][:10]
        if "correct" in columns:
            self._judged = True
            self.correct += int(np.nansum(columns["correct"]))
        self.seconds += float(columns["seconds"])

    def metrics(self) -> dict[str, Any]:
        found: dict[str, Any] = {"samples": self.samples}
        if self._judged:
            found["accuracy"] = self.correct / max(self.samples, 1)
        if self.nonfinite:
            found |= {"nonfinite": self.nonfinite, "nonfinite_samples": self.first}
        return found


def _batches(
    store: Store,
    dataset: Dataset,
    model: str,
    decoder: Mapping[str, int],
    scorer: Scorer,
    tally: _Tally,
    begin: int,
) -> Iterator[Batch]:
    """The parts of the shards from one on."""
    for number, shard in enumerate(dataset.shards[begin:], begin):
        name = _name(part_key(dataset, shard, model, decoder, scorer))
        columns = read_part(store, name)
        if columns is None:  # removed or damaged since: one shard's work
            store.root.delete(name)
            score_parts(store, dataset, [number], model, scorer=scorer)
            columns = read_part(store, name)
            assert columns is not None
        tally.add(shard.first_sample, columns)
        samples = np.arange(shard.first_sample, shard.first_sample + shard.count)
        yield {k: v for k, v in columns.items() if v.ndim}, samples


def _together(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches of a good size, of parts that may be tiny; those with other columns stay apart."""
    held, rows = list[Batch](), 0
    for columns, samples in batches:
        if held and (rows >= _ROWS or held[0][0].keys() != columns.keys()):
            yield _joined(held)
            held, rows = [], 0
        held.append((columns, samples))
        rows += len(samples)
    if held:
        yield _joined(held)


def _joined(held: Sequence[Batch]) -> Batch:
    columns = {name: np.concatenate([part[name] for part, _ in held]) for name in held[0][0]}
    return columns, np.concatenate([samples for _, samples in held])


def _name(key: str) -> str:
    return f"parts/{key[:2]}/{key}.npz"


def _difference(stored: Columns, computed: Columns) -> float:
    worst = 0.0
    for name, values in computed.items():
        a, b = stored[name].astype(np.float64), values.astype(np.float64)
        if (np.isfinite(a) != np.isfinite(b)).any():
            return float("inf")
        both = np.isfinite(a)
        worst = max(worst, float(np.abs(a[both] - b[both]).max(initial=0.0)))
    return worst
