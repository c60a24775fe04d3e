"""How sure models are of the right class, and how often right, from the hardest samples of a dataset to the easiest.

What: with p_i a model's probability for the label of sample i, the samples in the order of p_i, cut into B parts of
equal size (to one sample):

    confidence of part b    the b/B quantile of p: the largest p_i of the part (inverse CDF)
    accuracy of part b      the share of its samples whose largest probability is that of the label

Parts are each model's own. Ties stand in the order of the samples.
When: to see whether a strategy is better at hard samples, and what that costs at easy ones.
How: p_i = exp(-loss_i), from scores of the model on this dataset (`tamis score uncertainty`) where there are such, or
else from a forward pass, shard by shard, of which nothing is kept. Samples without a finite loss (logits that are not
finite, a class that the model lacks) are left out, and counted.
Cost: reading scores, or a forward pass. Memory: 24 bytes a sample, and a shard's scores.
Source: A. Jiang, thesis, 2021, figures 3.9 (confidence) and 3.10 (accuracy), section 3.6.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.runs import Run
from tamis.training.errors import ReportError
from tamis.training.models.own import failing
from tamis.training.models.saved import trained_run
from tamis.training.reports.runs import label_runs
from tamis.training.signals.scorers import UNCERTAINTY
from tamis.training.signals.scoring import find_scores
from tamis.training.tasks import get_task

PARTS = 100
Progress = Callable[[int, int], None]
_Known = tuple[NDArray[np.float64], NDArray[np.bool_]]  # losses [N], right [N]


@dataclass(frozen=True)
class Confidence:
    """A model on a dataset.

    Attributes:
        run: key of the run that trained it.
        label: its strategy, with the parameters that tell it from the others.
        dataset: name@version.
        samples: that count.
        nonfinite: samples without a finite loss, which are left out.
        scores: key of the scoring run that was read; None where the model was evaluated.
        percentile: [B] 100 b/B.
        confidence: [B] quantiles of the target confidence, rising.
        accuracy: [B] share of each part that is right.
    """

    run: str
    label: str
    dataset: str
    samples: int
    nonfinite: int
    scores: str | None
    percentile: tuple[float, ...]
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]


def confidences(
    store: Store,
    runs: Sequence[str],
    dataset: str,
    *,
    parts: int = PARTS,
    device: str = "auto",
    batch_size: int = 256,
    progress: Progress | None = None,
) -> list[Confidence]:
    """Target confidence and accuracy by percentile, of the models of finished training runs.

    Args:
        store: the store.
        runs: keys of training runs, or their beginnings.
        dataset: "name" or "name@version".
        parts: B; as many as there are samples, where these are fewer.
        device: "auto", "cpu", "cuda", ..., where a model is to be evaluated.
        batch_size: samples a forward pass.
        progress: called with (samples done, samples in all), over all models.

    Raises:
        RunNotFound, DatasetNotFound: naming what there is.
        TaskError: a model of another task than classification.
        LabelError: the dataset has no classes.
        ReportError: no runs, no part, or no sample with a finite loss.
        ShardChanged, DecodeError: naming the shard or the sample.
    """
    if parts < 1:
        raise ReportError(f"parts is {parts}: expected 1 or more.")
    if not runs:
        raise ReportError("No run given: name one or more finished training runs.")
    found, judged = [trained_run(store, run) for run in runs], store.datasets.get(dataset)
    made: list[Confidence] = []
    for at, (run, label) in enumerate(zip(found, label_runs(found), strict=True)):

        def report(done: int, at: int = at) -> None:
            if progress is not None:
                progress(at * judged.samples + done, len(found) * judged.samples)

        scores, (losses_N, right_N) = _of_model(store, run, judged, device, batch_size, report)
        report(judged.samples)
        finite_N = np.isfinite(losses_N)
        if not finite_N.any():
            raise ReportError(f"Run {run.key[:12]} has no finite loss on {judged.ref}: there is nothing to report.")
        curves = by_percentile(np.exp(-losses_N[finite_N]), right_N[finite_N], parts)
        counts = int(finite_N.sum()), int((~finite_N).sum())
        made.append(Confidence(run.key, label, judged.ref, *counts, scores, *(tuple(c.tolist()) for c in curves)))
    return made


def by_percentile(
    confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_], parts: int = PARTS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Percentiles [B], the inverse CDF of the confidence there [B], and the accuracy of the parts between them [B].

    Args:
        confidence_N: finite; at least one.
        right_N: whether each prediction is right.
        parts: B, or N where that is fewer.
    """
    n = len(confidence_N)
    parts = min(parts, n)
    order_N = np.argsort(confidence_N, kind="stable")
    ends_B = np.arange(1, parts + 1) * n // parts
    sums_B = np.add.reduceat(right_N[order_N].astype(np.int64), np.concatenate([[0], ends_B[:-1]]))
    percentile_B = 100 * np.arange(1, parts + 1) / parts
    return percentile_B, confidence_N[order_N[ends_B - 1]], sums_B / np.diff(ends_B, prepend=0)


def _of_model(
    store: Store, run: Run, dataset: Dataset, device: str, batch_size: int, report: Callable[[int], None]
) -> tuple[str | None, _Known]:
    """The scoring run that has them, if one has, and losses and right predictions of all samples."""
    assert run.blob is not None
    UNCERTAINTY.check_task(run.config.get("task", "classification"))
    get_task("classification").outputs(store, dataset)
    scored = find_scores(store, dataset, run.blob)
    if scored is None:
        return None, _evaluated(store, run.blob, dataset, device, batch_size, report)
    losses_N, right_N = (store.runs.scores(scored.key, name, dataset.samples) for name in ("loss", "correct"))
    return scored.key, (losses_N, right_N == 1)


def _evaluated(
    store: Store, model: str, dataset: Dataset, device: str, batch_size: int, report: Callable[[int], None]
) -> _Known:
    from tamis.training.signals.outputs import load_model, score_shard

    losses_N, right_N = np.empty(dataset.samples), np.empty(dataset.samples, np.bool_)
    module, meta = load_model(store, model)
    for number, shard in enumerate(dataset.shards):
        with failing(meta.model):
            made = score_shard(store, dataset, number, module, meta, device=device, batch_size=batch_size)
        span = slice(shard.first_sample, shard.first_sample + shard.count)
        losses_N[span], right_N[span] = made["loss"], made["correct"]
        report(shard.first_sample + shard.count)
    return losses_N, right_N
