"""What the tests of lifecycles share: ages, processes that race, and what a store has."""

import os
import time
from pathlib import Path

from storekit import publish

from tamis.store import Store
from tamis.store.errors import SelectionNotFound, StillNeeded

DAY = 24 * 3600.0


def age(store: Store, days: float = 2) -> None:
    """Make every file look as old as that."""
    moment = time.time() - days * DAY
    for folder in ("tables", "blobs", "checkpoints"):
        for path in (Path(store.root.url) / folder).rglob("*"):
            if path.is_file():
                os.utime(path, (moment, moment))


def finished(store: Store, run: str, dataset: str, **more: str) -> None:
    """A scoring run of five samples that has ended."""
    store.runs.begin(kind="score", key=run, dataset=dataset, **more)  # pyright: ignore[reportArgumentType] - texts
    store.runs.put_scores(run, {"entropy": [1, 2, 3, 4, 5]}, range(5))
    store.runs.finish(run)


def remove_or_need(path: Path, number: int) -> None:
    """Process 0 removes dataset `d<round>`, the others publish a selection from it; each says how it ended."""
    store = Store.open(path)
    for turn in range(20):
        gate(path, number, turn)
        try:
            if number == 0:
                store.datasets.remove(f"d{turn}")
            else:
                publish(store, store.datasets.get(f"d{turn}"), f"of{turn}", seed=number)
            said = "done"
        except StillNeeded:
            said = "needed"
        except KeyError as error:
            said = "gone" if "removed" in str(error) else repr(error)
        (path.parent / f"{turn}-{number}.txt").write_text(said)


def remove_or_publish(path: Path, number: int) -> None:
    """Process 0 and 1 remove name `n`, the others publish under it, each a key of its own and one that all publish."""
    store = Store.open(path)
    dataset = store.datasets.get("base")
    for turn in range(10):
        gate(path, number, turn)
        if number > 1:
            publish(store, dataset, "n", seed=100 * turn + number)
            publish(store, dataset, "n", seed=100 * turn)
        else:
            try:
                store.selections.remove("n")
            except SelectionNotFound:
                continue


def gate(path: Path, number: int, turn: int, count: int = 3) -> None:
    """Wait for the others to come to this turn."""
    (path.parent / f"gate-{turn}-{number}").touch()
    until = time.monotonic() + 10
    while len(list(path.parent.glob(f"gate-{turn}-*"))) < count and time.monotonic() < until:
        time.sleep(0.001)
