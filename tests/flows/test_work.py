"""The door for tasks: what runs directly does as it does on a Prefect server, and every flow of the list runs there."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from tamis.flows.configs import DetectConfig, FeaturesConfig, IndexConfig, Resources, ScoreConfig
from tamis.flows.demo import where_seen
from tamis.flows.detections.culling import CullConfig, Watcher
from tamis.flows.renewal.config import RenewConfig
from tamis.flows.runners import Direct
from tamis.flows.tasks import RETRIES, Task
from tamis.flows.work import FLOWS, run
from tamis.store import Store
from tamis.store.errors import ShardError
from tamis.training.adapting.config import AdaptConfig
from tamis.training.config import Reselect
from tamis.training.job import TrainConfig
from tamis.training.mainstream.trainer.config import PackageConfig
from tamis.training.selecting.by_runs import MatchConfig
from tamis.training.selecting.by_scores import SelectConfig

BRIEF: dict[str, Any] = {"dataset": "digits", "model": "preact8", "epochs": 1, "batch_size": 64}


class Failing:
    """Fails so often, then answers."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.error, self.calls = times, error, 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if self.calls <= self.left:
            raise self.error
        return value


def test_a_fault_of_the_machine_is_met_by_trying_again() -> None:
    passing = Failing(RETRIES, OSError("the medium is busy"))
    assert Direct(pause=0).call(Task("t", passing), 7) == 7
    assert passing.calls == RETRIES + 1
    lasting = Failing(RETRIES + 1, OSError("the medium is gone"))
    with pytest.raises(OSError, match="is gone"):
        Direct(pause=0).call(Task("t", lasting), 7)


def test_what_tamis_refuses_and_what_resumes_by_itself_is_not_tried_again() -> None:
    for retried, error in ((True, ShardError("no tar")), (False, OSError("broken"))):
        once = Failing(1, error)
        with pytest.raises(type(error)):
            Direct(pause=0).call(Task("t", once, retried), 7)
        assert once.calls == 1


@pytest.mark.parametrize("workers", [1, 3])
def test_tasks_run_on_so_many_threads_and_answers_keep_their_order(workers: int) -> None:
    meeting, threads = threading.Barrier(workers, timeout=20), set[int]()

    def task(value: int) -> int:
        meeting.wait()  # each waits until all workers are at work
        threads.add(threading.get_ident())
        time.sleep(0.01 * (6 - value))  # the first ends last
        return value

    assert Direct(workers).each(Task("t", task), [{"value": i} for i in range(6)]) == list(range(6))
    assert len(threads) == workers


def test_the_first_error_leaves_out_what_has_not_begun() -> None:
    begun = list[int]()

    def task(value: int) -> int:
        begun.append(value)
        time.sleep(0.02)
        raise ShardError(f"shard {value}")

    with pytest.raises(ShardError):
        Direct(2).each(Task("t", task), [{"value": i} for i in range(50)])
    assert len(begun) < 10


def test_every_flow_runs_on_a_server_with_the_same_answers(
    digits: dict[str, list[Path]], tmp_path: Path, prefect_server: str
) -> None:
    """The list is what the server shows, and keys and scores do not depend on the runner."""
    asked = tuple(str(path) for path in digits["test"])
    answers: dict[str, list[Any]] = {}
    with get_client(sync_client=True) as client:
        before = {one.id for one in client.read_flow_runs()}
        for runner in ("direct", "prefect"):
            where = str(tmp_path / runner)
            Store.create(where)

            def go(name: str, config: Any, where: str = where, runner: Any = runner) -> Any:
                return run(name, where, config, Resources(workers=2), runner=runner)

            go("index", IndexConfig(name="digits", shards=asked))
            (scored,) = go("score", ScoreConfig(dataset="digits", proxies=(TrainConfig(**BRIEF),)))
            selected = go("select", SelectConfig(dataset="digits", budget=9, scores=(scored.run,)))
            trained = go("train", TrainConfig(**BRIEF))
            made = go("features", FeaturesConfig(dataset="digits", run=trained["run"]))
            boxes = go("detect", DetectConfig(dataset="digits", model="tiny_model:detector"))
            assert boxes["metrics"]["boxes"] == 299
            watcher = Watcher(model="tiny_model:detector")
            culled = go("cull", CullConfig(dataset="digits", teacher=watcher, student=watcher, first="9", keep=("3",)))
            budget = Reselect(budget=20, kind="batch")
            matched = go("match", MatchConfig(dataset="digits", runs=(trained["run"],), reselect=budget, batch_size=10))
            again = {"dataset": "digits", "budget": 9, "measure": "margin"}
            renewed = go("renew", RenewConfig(dataset="digits", proxies=(TrainConfig(**BRIEF),), selections=(again,)))
            quick = TrainConfig(dataset="digits", model="tiny_model:linear", augment="none")
            search = AdaptConfig(train=quick, trials=1, sampler="random", budget_epochs=1)
            found = run("adapt", where, search, Resources(), runner=runner)  # type: ignore[arg-type]  # a runner
            given: dict[str, Any] = {"average": 4, "minimum": 1, "frequency": 0.1, "epochs": 1, "branchpoints": "2"}
            base = {"dataset": "digits", "base": "preact8", "base_run": trained["run"], "event": "3"}
            packed = go("package_build", PackageConfig(name="threes", **base, **given))
            store = Store.open(where)
            refs = (selected["selection"], matched["selection"], culled["selections"]["3"])
            chosen = [store.selections.get(ref).round_at(0)[0].tolist() for ref in refs]
            answers[runner] = [scored.run, made.run, boxes["run"], trained, selected, matched, chosen, found, packed]
            answers[runner] += [renewed.selections, [one.run for one in renewed.passes]]
        runs = [one for one in client.read_flow_runs() if one.id not in before]
        flows = {client.read_flow(one.flow_id).name for one in runs}
    assert answers["prefect"] == answers["direct"]
    assert trained["cached"] is True  # the proxy is the same question
    assert flows == set(FLOWS)
    assert {one.state_name for one in runs} == {"Completed"}


def test_a_command_takes_what_was_asked_for(tamis: Any, digits: dict[str, list[Path]], prefect_server: str) -> None:
    """The configured server by default, this process where it is asked for; errors are one line either way."""
    tamis("init")
    assert tamis("dataset", "add", "digits", *digits["test"]).code == 0
    with get_client(sync_client=True) as client:
        before = len(client.read_flow_runs())
        for runner in ("direct", "prefect"):
            said = tamis("select", "random", "--dataset", "nope", "--budget", 5, "--runner", runner, "--json")
            assert said.code == 1
            assert json.loads(said.err.splitlines()[-1])["error"] == "DatasetNotFound"
        assert len(client.read_flow_runs()) == before + 1


def test_the_demo_says_where_its_runs_are(prefect_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"PREFECT_API_URL={prefect_server} prefect flow-run ls" in where_seen()
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:secret@host:4200/api")
    assert where_seen() == "Prefect shows the flow runs at http://host:4200/runs"


def test_resources_reach_the_work(tamis: Any, digits: dict[str, list[Path]]) -> None:
    from tests.flows import watched_model

    tamis("init")
    tamis("dataset", "add", "digits", *digits["test"])
    trained = tamis("train", "--dataset", "digits", "--model", "tests.flows.watched_model:watched", "--epochs", 1,
                    "--batch-size", 64, "--augment", "none", "--json")  # fmt: skip
    assert trained.code == 0, trained.err
    watched_model.BATCHES.clear()
    scored = tamis("score", "uncertainty", "--dataset", "digits", "--run", trained.json["run"], "--score-batch", 100)
    assert scored.code == 0, scored.err
    assert watched_model.BATCHES == [100, 100, 99]
