"""`tamis score`: give every sample a number."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, common, limit_options, resource_options, resources, run_flow, said
from tamis.flows.cli.output import emit, facts, note, table
from tamis.training.signals.scorers import SCORERS

if TYPE_CHECKING:
    from tamis.flows.configs import Resources, ScoreConfig
    from tamis.store import Store
    from tamis.training.signals.scorers import Scorer


class _Scorers(click.Group):
    """Finds a scorer of one's own."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if ":" not in cmd_name:
            return super().get_command(ctx, cmd_name)
        from tamis.training.signals.own import find_scorer

        return _command(find_scorer(cmd_name))


@click.group(cls=_Scorers)
def score() -> None:
    """Score every sample of a dataset, or compute a feature vector for each (a flow; results are rows in the store).

    The scorer may be your own: module:function, in the current folder or installed.

    \b
    Examples:
      tamis score uncertainty --dataset cifar10 --proxy preact20 --epochs 2
      tamis score myscorers:el2n --dataset cifar10 --run 1f0c9a
    """


_MODEL_OPTIONS = (
    click.option("--dataset", required=True, help="name or name@version."),
    click.option("--proxy", help="Proxy model to train first: preact20, resnet18, module:function, ..."),
    click.option("--run", "runs", multiple=True, metavar="KEY", help="Score with a finished training run instead."),
    click.option(
        "--epochs", default=10, show_default=True, type=click.IntRange(1), help="Training epochs of the proxy."
    ),
    click.option(
        "--ensemble",
        default=1,
        show_default=True,
        type=click.IntRange(1),
        help="Number of proxies, with seeds SEED, SEED+1, ...",
    ),
    click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Seed of the (first) proxy."),
    click.option(
        "--batch-size", default=128, show_default=True, type=click.IntRange(1), help="Training batch size of the proxy."
    ),
    click.option("--lr", default=0.1, show_default=True, type=float, help="Learning rate of the proxy."),
    click.option("--augment", default="crop-flip", show_default=True, type=click.Choice(["none", "crop-flip"])),
)


def _command(scorer: "Scorer") -> click.Command:
    def run(app: App, device: str, workers: int, score_batch: int, force: bool, **given: Any) -> None:
        _score(app, scorer.name, resources(device, workers, score_batch), force, given)

    command = resource_options(common(run))
    for option in reversed(_MODEL_OPTIONS):
        command = option(command)
    return click.command(scorer.name, help=_TEXTS.get(scorer.name) or _help(scorer))(command)


def _help(scorer: "Scorer") -> str:
    told = (scorer.score.__doc__ or "").strip().splitlines()
    told = told[0].rstrip(".") if told else f"A scorer of your own, {scorer.name}"
    hard = ", ".join(f"{metric} ({direction} is harder)" for metric, direction in scorer.metrics.items())
    examples = f"\b\nExamples:\n  tamis score {scorer.name} --dataset cifar10 --proxy preact20 --epochs 2\n"
    chosen = f"  tamis select uncertainty --dataset cifar10 --measure {next(iter(scorer.metrics))} --budget 50%\n"
    return f"{told}.\n\nMetrics: {hard}.\n\n{examples}{chosen}"


def _score(app: App, scorer: str, limits: "Resources", force: bool, given: dict[str, Any]) -> None:
    if (given["proxy"] is None) == (not given["runs"]):
        raise click.UsageError("Specify a model: either --proxy MODEL (trained first), or --run KEY (trained already).")
    from tamis.flows.work import cached_scores

    store = app.open()
    config = _config(store, scorer, given)
    results = None if force else cached_scores(store, config)
    if results is None:
        from tamis.training.models.registry import check_model  # loads torch

        for asked in config.proxies[:1]:
            check_model(asked.model)
        results = run_flow("score", limits, store.root.url, config, force=force)
    rows = [r.model_dump() for r in results]
    emit(rows, app.as_json, lambda: table([_row(row) for row in rows]))
    for row in rows:
        if row["metrics"].get("nonfinite"):
            note(
                f"Run {row['run'][:12]}: the scores of {row['metrics']['nonfinite']} samples are not finite (first: "
                f"{row['metrics']['nonfinite_samples']}); selections leave them out."
            )


def _config(store: "Store", scorer: str, given: dict[str, Any]) -> "ScoreConfig":
    from tamis.flows.configs import ScoreConfig
    from tamis.training.job import TrainConfig

    dataset, proxy = given["dataset"], given["proxy"]
    fields = {name: given[name] for name in ("epochs", "batch_size", "lr", "augment")}
    seeds = range(given["seed"], given["seed"] + given["ensemble"]) if proxy else ()
    proxies = tuple(TrainConfig(dataset=dataset, model=proxy, seed=seed, **fields) for seed in seeds)
    runs = tuple(store.runs.get(key).key for key in given["runs"])
    return ScoreConfig(dataset=dataset, proxies=proxies, runs=runs, scorer=scorer)


_TEXTS = {
    "uncertainty": """Confidence, margin and entropy of every sample under a small proxy model (Selection via Proxy).

One pass stores all three measures, the loss, and whether the prediction was correct. Trained proxies and scored shards
are reused: after an append, only new shards are scored.

\b
Examples:
  tamis score uncertainty --dataset cifar10 --proxy preact20 --epochs 2
  tamis score uncertainty --dataset cifar10 --proxy preact20 --epochs 2 --ensemble 3
  tamis score uncertainty --dataset cifar10@2 --run 1f0c9a
"""
}
for _scorer in SCORERS.values():
    score.add_command(_command(_scorer))


@score.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--model-run", "run", required=True, metavar="KEY", help="The training run whose model to use.")
@click.option("--layer", default="penultimate", show_default=True,
              help="A module of the network; penultimate: the input of its last linear layer.")  # fmt: skip
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(["float16", "float32"]))
@limit_options
@common
def features(
    app: App, dataset: str, run: str, layer: str, dtype: Any, device: str, workers: int, score_batch: int
) -> None:
    """Feature vectors of every sample: the output of a layer of a trained model (table features).

    Feature maps of a convolution are averaged to a vector. Finished shards are reused: a killed pass resumes, and after
    an append only new shards are computed.

    \b
    Examples:
      tamis score features --dataset cifar10 --model-run 1f0c9a
      tamis score features --dataset cifar10@2 --model-run 1f0c9a --layer stages.2 --dtype float16
      tamis sql "select sample, vector from features limit 5"
    """
    from tamis.flows.configs import FeaturesConfig

    store = app.open()
    config = FeaturesConfig(dataset=dataset, run=store.runs.get(run).key, layer=layer, dtype=dtype)
    made = run_flow("features", resources(device, workers, score_batch), store.root.url, config)
    row = made.model_dump(exclude={"confirmed"})
    emit(row, app.as_json, lambda: table([_row(row | {"confirmed": None})]))
    if row["metrics"].get("nonfinite"):
        note(f"Run {row['run'][:12]}: {row['metrics']['nonfinite']} vectors are not finite and stored as null.")


@score.command()
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--run", "runs", multiple=True, required=True, metavar="KEY", help="A finished training run; several.")
@resource_options
@common
def losses(
    app: App, dataset: str, runs: tuple[str, ...], device: str, workers: int, score_batch: int, force: bool
) -> None:
    """The loss of every sample by trained models, kept as loss history (table losses), for tamis select losses.

    The pass is that of tamis score uncertainty, and found again where that was made. Its losses are one epoch of the
    scoring run: the last of the training run whose model it is.

    \b
    Examples:
      tamis score losses --dataset cifar10 --run 1f0c9a
      tamis select losses --dataset cifar10 --by newest --budget 40%
      tamis history --run 77ab02
    """
    from tamis.flows.configs import ScoreConfig
    from tamis.flows.work import cached_scores

    store = app.open()
    config = ScoreConfig(dataset=dataset, runs=tuple(store.runs.get(key).key for key in runs), losses=True)
    results = None if force else cached_scores(store, config)
    if results is None:
        results = run_flow("score", resources(device, workers, score_batch), store.root.url, config, force=force)
    rows = [r.model_dump() for r in results]
    emit(rows, app.as_json, lambda: table([_row(row) for row in rows]))


@score.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--measure", default="entropy", show_default=True, help="entropy, margin, confidence, loss, or an imported metric."
)
@common
def compare(app: App, runs: tuple[str, ...], measure: str) -> None:
    """Rank correlation between scoring runs (Selection via Proxy, figure 3).

    1 means that two models rank the samples alike, so a small one can select for a large one.

    \b
    Examples:
      tamis score compare 1f0c9a 77ab02
      tamis score compare 1f0c9a 77ab02 5e81d0 --measure margin --json
    """
    from tamis.training.selecting.by_scores import compare_scores

    store = app.open()
    found = [store.runs.get(key) for key in runs]
    matrix = compare_scores(store, [run.key for run in found], measure).tolist()
    names = [f"{run.model} {run.key[:8]}" for run in found]
    rows = [{"run": name, **dict(zip(names, line, strict=True))} for name, line in zip(names, matrix, strict=True)]
    answer = {"measure": measure, "runs": [run.key for run in found], "correlation": matrix}
    emit(answer, app.as_json, lambda: table(rows))


@score.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--dataset", required=True, help="name or name@version.")
@click.option("--name", required=True, help="Source of the scores; shown as the run's model.")
@click.option(
    "--hard",
    required=True,
    type=click.Choice(["higher", "lower"]),
    help="Whether higher or lower scores mean harder samples.",
)
@click.option("--metric", "metrics", multiple=True, help="Import only this metric; repeatable.")
@click.option("--allow-missing", is_flag=True, help="Accept samples without a score; default: refuse them.")
@common
def import_(
    app: App, file: str, dataset: str, name: str, hard: Any, metrics: tuple[str, ...], allow_missing: bool
) -> None:
    """Import scores for `tamis select` and SQL.

    FILE is Parquet or CSV with a column `key` or `sample`, and either one column per metric or the columns `metric` and
    `value`. Selections prefer hard samples. Importing the same scores again returns the existing run.

    \b
    Examples:
      tamis score import el2n.parquet --dataset cifar10 --name el2n --hard higher
      tamis select uncertainty --dataset cifar10 --measure el2n --budget 40%
      tamis score import scores.csv --dataset cifar10 --name aum --hard lower --metric aum --allow-missing
    """
    from tamis.store.importing import import_scores

    made = import_scores(app.open(), file, dataset, name=name, hard=hard, metrics=metrics, allow_missing=allow_missing)
    answer = {
        "run": made.run.key,
        "dataset": made.run.dataset,
        "metrics": made.run.config["metrics"],
        "hard": hard,
        "missing": dict(made.missing),
        "cached": made.cached,
    }
    told = {k: v for k, v in answer.items() if k != "cached"} | {"answer": said(not made.cached, None)}
    emit(answer, app.as_json, lambda: facts(told))


def _row(result: dict[str, object]) -> dict[str, object]:
    metrics, seconds = result["metrics"], result["seconds"]
    assert isinstance(metrics, dict)
    assert isinstance(seconds, dict)
    confirmed = result["confirmed"]
    return {
        "run": str(result["run"])[:12],
        "dataset": result["dataset"],
        "model": result["model"],
        "accuracy": metrics.get("accuracy"),
        "seconds": seconds.get("total"),
        "shards scored": f"{result['parts_computed']} of {result['parts']}",
        "answer": said(not result["cached"], confirmed if isinstance(confirmed, bool) else None),
    }
