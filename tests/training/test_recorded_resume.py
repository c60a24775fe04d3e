"""What a run that was interrupted after an epoch recorded of losses is what one that was not recorded."""

import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.training.errors import ModelFailed
from tamis.training.job import TrainConfig, train

ASKED = "select epoch, sample, loss, correct from losses where run = ? order by epoch, sample"


class Stopped(Exception):
    """Between two steps."""


def test_losses_after_a_checkpoint_at_the_end_of_an_epoch(store: Store, dataset: Dataset) -> None:
    given = {"model": "tiny_model:linear", "augment": "none", "batch_size": 500}  # three steps an epoch
    config = TrainConfig(dataset=dataset.ref, epochs=3, record_losses=True, **given)  # pyright: ignore[reportArgumentType] - texts and a number

    def stop(done: int, total: int) -> None:
        if store.query("select max(epoch) as last from losses")["last"][0].as_py() == 0 and store.root.list(
            "checkpoints"
        ):
            raise Stopped

    with pytest.raises(ModelFailed, match="Stopped"):
        train(store, config, device="cpu", progress=stop)
    assert store.root.list("checkpoints")
    train(store, config, device="cpu")
    rows = store.query(ASKED, [store.runs.all()[0].key]).to_pylist()
    assert len(rows) == 3 * dataset.samples
    assert {type(row["correct"]) for row in rows} == {bool}
    assert rows[dataset.samples]["epoch"] == 1
