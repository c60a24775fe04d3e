"""The main job from beginning to end, on scikit-learn's digits: 1,797 real images that need no download.

Digits go into shards, a small proxy scores them, the 40 % it is least sure of are selected, and a larger target trains
on all, on the selection, and on a random 40 %. Every step is the one that the command line runs, here always through
Prefect, so that its flows and tasks can be looked at.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tamis.flows.cli.output import emit, note, say, size, table
from tamis.flows.server.settings import server_url, shown, start_temporary
from tamis.store import Store
from tamis.store.advice import command
from tamis.store.datasets.packing import pack_digits

PROXY, TARGET, BUDGET, EPOCHS = "preact8", "preact20", "40%", 12

QUERIES = {
    "Which selections are there, and what did choosing cost?": """
        select name || '@' || version as selection, method, size, round(seconds, 2) as seconds
        from selections order by name""",
    "Which digits is the proxy least sure of?": """
        select s.sample, p.key, p.label, round(s.value, 3) as entropy
        from scores s join samples p using (sample)
        where s.metric = 'entropy' and p.dataset = 'digits' order by s.value desc limit 5""",
    "Which classes does each selection prefer?": """
        select n.name, p.label, count(*) as chosen
        from selection_samples c join selections n using (selection) join samples p using (sample)
        where p.dataset = 'digits' group by n.name, p.label
        qualify row_number() over (partition by n.name order by count(*) desc) <= 2
        order by n.name, chosen desc""",
}


def run_demo(folder: str, *, epochs: int | None, as_json: bool) -> None:
    """Run the demo in a folder of its own and print what came out. A second call finds everything in the store.

    Args:
        folder: where the store goes.
        epochs: of each training run.
        as_json: print one JSON object.
    """
    store = Store.open_or_create(Path(folder) / "store")
    note(where_seen())
    rows = _steps(store, epochs or EPOCHS)
    answers = {question: store.query(query).to_pylist() for question, query in QUERIES.items()}
    emit({"store": store.root.url, "results": rows, "queries": answers}, as_json, lambda: _print(store, rows, answers))


def where_seen() -> str:
    """Where Prefect shows the demo's flows; starts the temporary server where none is configured."""
    url = server_url()
    if url is not None:
        return f"Prefect shows the flow runs at {shown(url).removesuffix('/').removesuffix('/api')}/runs"
    return (
        f"Flow runs, while this runs: PREFECT_API_URL={start_temporary()} prefect flow-run ls\n"
        "To keep them and see them on a page: `prefect server start`, then run the demo with "
        "PREFECT_API_URL=http://127.0.0.1:4200/api"
    )


def _steps(store: Store, epochs: int) -> list[dict[str, Any]]:
    """Run the flows; one row for each training run of the target."""
    from tamis.flows.configs import IndexConfig, ScoreConfig
    from tamis.flows.work import run
    from tamis.training.job import TrainConfig
    from tamis.training.selecting.by_scores import SelectConfig

    def flow(name: str, config: BaseModel) -> Any:
        return run(name, where, config, runner="prefect")

    where = store.root.url
    shared: dict[str, Any] = {"epochs": epochs, "batch_size": 64, "lr": 0.1, "augment": "none"}
    for name, test in (("digits", False), ("digits-test", True)):
        shards = [str(p) for p in pack_digits(Path(where) / "shards" / name / name, test=test)]
        flow("index", IndexConfig(name=name, shards=tuple(shards)))
    brief: dict[str, Any] = shared | {"epochs": max(1, epochs // 3)}
    proxy = TrainConfig(dataset="digits", model=PROXY, **brief)
    scored = flow("score", ScoreConfig(dataset="digits", proxies=(proxy,)))
    chosen = {
        "entropy 40 %": SelectConfig(dataset="digits", budget=BUDGET, scores=(scored[0].run,)),
        "random 40 %": SelectConfig(dataset="digits", budget=BUDGET, method="random"),
    }
    refs: dict[str, str | None] = {"all": None}
    refs |= {what: flow("select", config)["selection"] for what, config in chosen.items()}
    rows: list[dict[str, Any]] = []
    for what, ref in refs.items():
        config = TrainConfig(dataset="digits", selection=ref, model=TARGET, evaluate_on="digits-test", **shared)
        rows.append(_row(store, what, ref, flow("train", config)["run"]))
    return rows


def _row(store: Store, what: str, ref: str | None, key: str) -> dict[str, Any]:
    run = store.runs.get(key)
    selecting = store.selections.get(ref).seconds if ref else 0.0
    training = run.seconds["total"]
    return {
        "trained on": what,
        "accuracy": run.metrics["accuracy"],
        "samples read": run.metrics["samples_read"],
        "bytes read": run.metrics["bytes_read"],
        "training s": round(training, 2),
        "selecting s": round(selecting, 2),
        "together s": round(training + selecting, 2),
    }


def _print(store: Store, rows: list[dict[str, Any]], answers: dict[str, list[dict[str, Any]]]) -> None:
    shown = [row | {"accuracy": f"{row['accuracy']:.1%}", "bytes read": size(row["bytes read"])} for row in rows]
    say("")
    table(shown, title=f"{TARGET} on scikit-learn's digits; {PROXY} chose the 40 %")
    say("Selection is paid for once: another training run on the same selection costs only the training column.")
    for question, answer in answers.items():
        say(f"\n{question}")
        say("  " + " ".join(QUERIES[question].split()))
        table(answer)
    say(f"\nThe store stays at {store.root.url}; query it with {command(store.root, 'sql', 'describe scores')}")
