"""Grad-Match from models that are there: a selection without training anything.

What: `select_by_runs` makes one round a finished training run, from the model that it left: checkpoints of a proxy, a
smaller model, or the last target. The key says what would be computed; what is there already is the answer.
When: where a model of the data is at hand. A training run that selects its own samples
(`tamis.training.strategies.reselect`) sees its own weights, and costs itself.
Cost: for each run one forward pass over the dataset, and the pursuits.
"""

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tamis.curation.budget import resolve_budget
from tamis.store import Store
from tamis.store.advice import command
from tamis.store.datasets import Dataset
from tamis.store.errors import RunNotFound
from tamis.store.keys import check_name
from tamis.store.runs import FINISHED, Run
from tamis.store.selections import Published, Request, RoundData
from tamis.training import border
from tamis.training.config import GRADMATCH, Reselect
from tamis.training.decoding.pixels import decoder_key
from tamis.training.selecting.answers import Computed, answer


class MatchConfig(BaseModel):
    """What to select by which models.

    Attributes:
        dataset: "name" or "name@version".
        runs: finished training runs, one a round, in the order of the rounds.
        reselect: how to choose; `every` is how many epochs a round is in force, `warm` has no meaning here.
        batch_size: samples a mini-batch, for the kind "batch".
        seed: of the partition into mini-batches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    runs: tuple[str, ...] = Field(min_length=1)
    reselect: Reselect = Reselect()
    batch_size: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0, le=border.LARGEST)


def select_by_runs(
    store: Store,
    config: MatchConfig,
    *,
    device: str = "auto",
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Published:
    """Choose by the models of finished runs, and publish.

    Args:
        store: the store.
        config: what to select.
        device: "auto", "cpu", "cuda", ...
        force: choose again where the selection is there already, and say whether it comes out the same.
        progress: called with (samples looked at, samples to look at in all rounds).

    Raises:
        RunNotFound: a run is not there, is not finished, or left no model.
        BudgetError, HeadError, LabelError: naming what is wrong.
    """
    how, dataset = config.reselect, store.datasets.get(config.dataset)
    k = resolve_budget(how.budget, dataset.samples)
    target = None if how.target is None else store.datasets.get(how.target)
    runs = [_finished(store, key) for key in config.runs]
    params: dict[str, Any] = {"k": k, "every": how.every, "head": how.head, **how.params(config.batch_size)}
    params["target"] = None if target is None else target.key
    looked_at = [one.image for one in (dataset, target) if one is not None]
    params |= decoder_key(*((image, run.config.get("image_size")) for run in runs for image in looked_at))
    request = Request(dataset, GRADMATCH.name, GRADMATCH.version, params, [run.key for run in runs], config.seed)
    name = check_name(how.name or f"{dataset.name}-{GRADMATCH.name}", "selection")

    def compute() -> Computed:
        started = perf_counter()
        made = list(_rounds(store, config, dataset, target, runs, k, device, progress))
        proxy = sum(run.seconds.get("total", 0.0) for run in runs)
        seconds = {"select": perf_counter() - started, "proxy": proxy}
        return Computed([data for data, _ in made], seconds, {"rounds": [notes for _, notes in made]})

    return answer(store, request, name, compute, force=force)


def _finished(store: Store, key: str) -> Run:
    run = store.runs.get(key)
    if run.status != FINISHED or run.blob is None:
        raise RunNotFound(
            f"Run {run.key[:12]} is a {run.kind} that is {run.status} and left no model: name a finished training run "
            f"({command(store.root, 'run', 'ls', '--kind', 'train')} lists them)."
        )
    GRADMATCH.check_task(run.config.get("task", "classification"))
    return run


def _rounds(
    store: Store,
    config: MatchConfig,
    dataset: Dataset,
    target: Dataset | None,
    runs: list[Run],
    k: int,
    device: str,
    progress: Callable[[int, int], None] | None,
) -> Iterator[tuple[RoundData, dict[str, Any]]]:
    """One round a run, and what is worth knowing about it."""
    from tamis.training.selecting.by_gradients import Asked, choose
    from tamis.training.signals.outputs import load_model
    from tamis.training.streaming.batches import Images  # torch is loaded here and no earlier

    how, seen = config.reselect, 0
    total = len(runs) * (dataset.samples + (0 if target is None else target.samples))

    def looked(samples: int) -> None:
        nonlocal seen
        seen += samples
        if progress is not None:
            progress(seen, total)

    for number, run in enumerate(runs):
        assert run.blob is not None
        model, meta = load_model(store, run.blob)
        images = Images(meta.in_channels, meta.image_size)
        what = Asked(k, how.params(config.batch_size), how.head, target, images, config.seed)
        yield choose(store, dataset, model, what, first_epoch=number * how.every, device=device, progress=looked)
