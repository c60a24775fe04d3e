"""Whole commands, from the shell's point of view: run in this process, against the same through a Prefect server that
each starts for itself, as every command did before there was a choice."""

import os
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from benchlib import Result, folder, medians

from tamis.store import Store
from tamis.store.datasets.packing import pack_digits


def run(quick: bool, data: Path | None) -> list[Result]:
    with folder() as path:
        store = Store.create(path / "store")
        store.datasets.add("digits", pack_digits(path / "digits"))
        environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | {"PREFECT_HOME": str(path)}
        seeds = count()

        def tamis(*words: object) -> None:
            given = [sys.executable, "-m", "tamis.flows.cli", "--store", store.root.url, *map(str, words)]
            subprocess.run(given, env=environment, check=True, capture_output=True)

        score = ("score", "uncertainty", "--dataset", "digits", "--proxy", "preact8", "--epochs", 1, "--batch-size", 64,
                 "--augment", "none")  # fmt: skip

        def anew(runner: str) -> Callable[[], None]:
            return lambda: tamis(*score, "--seed", next(seeds), "--runner", runner)

        tamis(*score, "--seed", 10**6)
        repeats = 1 if quick else 3
        direct, prefect = (0.0, 0.0) if quick else medians(repeats, anew("direct"), anew("prefect"))
        (cached,) = medians(repeats, lambda: tamis(*score, "--seed", 10**6))
        note = "digits, preact8, 1 epoch and 5 shards"
        return [
            Result("tamis score, a new proxy", direct, "s", "through a temporary server", prefect or None, 1.0, note),
            Result("  the same, asked again", cached, "s", note="the answer is in the store"),
        ]
