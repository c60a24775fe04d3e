"""What flows do without Prefect: indexing, and finding answers that are in the store already."""

from tamis.flows.configs import IndexConfig, IndexResult, ScoreConfig, ScoreResult
from tamis.flows.progress import steps
from tamis.store import Store
from tamis.training import job
from tamis.training.signals import scoring


def index_shards(store: Store, config: IndexConfig) -> IndexResult:
    """Index shards; see `Datasets.index`."""
    options = config.model_dump(exclude={"name", "shards"})
    return IndexResult.of(store.datasets.index(config.name, config.shards, progress=steps("index"), **options))


def cached_scores(store: Store, config: ScoreConfig) -> list[ScoreResult] | None:
    """The answer of `score_flow` where all of it is in the store, or None. Touches neither Prefect nor a model."""
    dataset = store.datasets.get(config.dataset)
    results: list[ScoreResult] = []
    trained = [store.runs.get(key) for key in config.runs] + [job.find(store, proxy) for proxy in config.proxies]
    for run in trained:
        scored = None if run is None or run.blob is None else scoring.find_scores(store, dataset, run.blob)
        if run is None or scored is None:
            return None
        results.append(ScoreResult.of(scored, model_run=run.key, cached=True, parts=(0, len(dataset.shards))))
    return results
