"""What Prefect shows of every flow's run; and that the files for its work pools offer every flow."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from tamis.flows import artefacts, flows
from tamis.flows.configs import ScoreResult
from tamis.flows.work import FLOWS, run
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.selecting.by_scores import SelectConfig

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", FLOWS)
def test_every_flow_tells_what_it_came_to(name: str) -> None:
    flow = getattr(flows, f"{name}_flow")
    assert flow.fn.__wrapped__.__name__ == f"{name}_flow"
    assert {"store", "config"} <= set(flow.parameters.properties), "a server checks what deployments give"


@pytest.mark.parametrize("name", FLOWS)
def test_work_pools_are_offered_every_flow(name: str) -> None:
    offered = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    (one,) = [each for each in offered if each["name"] == f"tamis-{name}"]
    module, _, function = one["entrypoint"].rpartition(".")
    assert module == flows.__name__
    assert getattr(flows, function).name == name
    assert len(offered) == len(FLOWS)


def test_a_run_leaves_a_page_a_table_a_link_and_progress(
    store: Store, dataset: Dataset, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(artefacts.PAGE, "http://127.0.0.1:8000/")
    monkeypatch.setattr(artefacts, "_SOON", 0.0)  # everything takes long enough
    config = SelectConfig(dataset="digits", method="random", budget="10%", name="shown")
    assert run("select", store.root.url, config, runner="prefect")["selection"] == "shown@1"
    with get_client(sync_client=True) as client:
        newest = client.read_flow_runs(limit=1, sort=_newest())[0]
        asked = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[newest.id]))
        made = {one.key: one for one in client.read_artifacts(artifact_filter=asked)}
    assert "shown@1" in str(made["tamis-select"].data)
    assert f"tamis --store {store.root.url} selection show shown@1" in str(made["tamis-select"].data)
    assert "shown@1" in str(made["tamis-select-results"].data)
    assert "http://127.0.0.1:8000/selections/shown@1" in str(made["tamis-select-link"].data)


def _newest() -> Any:
    from prefect.client.schemas.sorting import FlowRunSort

    return FlowRunSort.START_TIME_DESC


def test_keys_name_what_a_run_came_to() -> None:
    scored = ScoreResult(
        run="ab" * 32, dataset="digits@1", model=None, model_run=None, cached=True, parts_computed=0, parts=1,
        confirmed=None, metrics={}, seconds={},
    )  # fmt: skip
    assert artefacts.key_of(artefacts.rows_of([scored, scored])) == f"{scored.run}, {scored.run}"
    assert artefacts.key_of(artefacts.rows_of({"selection": "a@1", "run": "x"})) == "a@1"
    assert artefacts.key_of(artefacts.rows_of(None)) is None
