"""What is told of loss history: of one sample, of one run, of all samples of a run; and when samples were chosen.

One function a question, each one query. The command line prints the answers, `tamis.training.reports.losses` draws
them.
Cost: reading the rows asked for; all of a run's, 10^6 rows in half a second.
"""

from typing import TYPE_CHECKING, Any

from tamis.store.errors import RunNotFound

if TYPE_CHECKING:
    import pyarrow as pa

    from tamis.store.store import Store

Row = dict[str, Any]
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)  # of the samples, below which a band's lines lie

_SAMPLE = (
    "select run, epoch, loss, loss_epoch, staleness, probability, selected, correct from losses where {} order by 1, 2"
)
_BANDS = f"""
    select epoch, count(*) as samples, count(loss) as finite, avg(loss) as mean,
           quantile_cont(loss, {[*SHARES]}) as quantiles, max(staleness) as staleness,
           case when count(selected) > 0 then count(*) filter (selected) end as selected,
           avg(correct::int) as accuracy
    from losses where run = $run group by epoch order by epoch"""
_PROBABILITY = f"""
    select epoch, count(*) as chosen, avg(probability) as mean,
           quantile_cont(probability, {[*SHARES]}) as quantiles
    from losses where run = $run and selected and probability is not null group by epoch order by epoch"""
_DATAMAP = """
    select sample, avg(exp(-loss)) as confidence, stddev_pop(exp(-loss)) as variability,
           avg(correct::int) as correctness
    from losses where run = $run and loss is not null and staleness = 0 group by sample order by sample"""
_CHOSEN = """
    select sample, count(*) as times, list(round order by round) as rounds, list(first_epoch order by round) as epochs
    from selection_samples join selection_rounds using (selection, round)
    where {} group by sample order by times desc, sample"""


def of_sample(store: "Store", sample: int, run: str | None = None) -> list[Row]:
    """The losses of one sample: run, epoch, loss, loss_epoch, staleness, probability, selected, correct.

    Args:
        store: an open store.
        sample: its number. Numbers are those of a dataset: `run` says of which; without it runs of all datasets answer.
        run: a run's key, or the beginning of it; None: all runs.

    Raises:
        RunNotFound: no such run, or it has no losses.
    """
    which = {"sample": sample} | ({} if run is None else {"run": with_losses(store, run)})
    rows = _asked(store, _SAMPLE, which)
    of = {one.key: one.dataset for one in store.runs.all()} if rows else {}
    return [{"run": row["run"], "dataset": of.get(row["run"])} | row for row in rows]


def bands(store: "Store", run: str) -> list[Row]:
    """Quantiles of a run's losses by epoch.

    Returns:
        epoch, samples, finite, mean, quantiles (at SHARES), staleness (the oldest), selected (None where the run does
        not select), accuracy (None where correctness was not recorded).

    Raises:
        RunNotFound: no such run, or it has no losses.
    """
    return store.query(_BANDS, {"run": with_losses(store, run)}).to_pylist()


def probabilities(store: "Store", run: str) -> list[Row]:
    """With which probability the chosen samples of each epoch were chosen: epoch, chosen, mean, quantiles (at SHARES).

    Raises:
        RunNotFound: no such run, or it has no losses.
    """
    return store.query(_PROBABILITY, {"run": with_losses(store, run)}).to_pylist()


def datamap(store: "Store", run: str) -> "pa.Table":
    """Mean and standard deviation of each sample's confidence over epochs.

    The confidence is the probability that the model gave to the label: exp(-loss), for cross-entropy.

    Returns:
        sample, confidence, variability, correctness (the share of epochs that predicted it right).

    Raises:
        RunNotFound: no such run, or it has no losses.

    Source: Swayamdipta et al., Dataset Cartography, EMNLP 2020, section 2.
    """
    return store.query(_DATAMAP, {"run": with_losses(store, run)})


def chosen(store: "Store", ref: str, sample: int | None = None) -> list[Row]:
    """When samples were chosen: sample, times, rounds, epochs (the first of each round); the most often chosen first.

    Args:
        store: an open store.
        ref: a selection: name, name@version or key.
        sample: only this one.
    """
    found = store.selections.get(ref)
    return _asked(store, _CHOSEN, {"selection": found.key} | ({} if sample is None else {"sample": sample}))


def with_losses(store: "Store", run: str) -> str:
    """The whole key of a run that has losses.

    Raises:
        RunNotFound: no such run, or it has none.
    """
    key = store.runs.get(run).key
    if key not in store.runs.with_losses():
        raise RunNotFound(
            f"Run {key[:12]} has no losses: train with --record-losses, score with tamis score losses, or record a "
            "loop of your own with tamis.training.LossRecorder."
        )
    return key


def _asked(store: "Store", query: str, which: dict[str, Any]) -> list[Row]:
    """The rows whose columns have the given values; a query names them where it has {}."""
    return store.query(query.format(" and ".join(f"{name} = ${name}" for name in which)), which).to_pylist()
