"""The store against a model in memory, through whatever order of calls hypothesis finds."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from storekit import counts, publish, shard

from tamis.store import Store
from tamis.store.selections import RoundData

names = st.sampled_from(["one", "two"])
runs = st.sampled_from(["run1", "run2"])


class StoreMachine(RuleBasedStateMachine):
    """`datasets` is {name: [shards of each version]}, `heads` the (name, key) of every selection in order."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.store = Store.create(self.folder / "store")
        self.shards = [shard(self.folder / f"{i}.tar", [f"s{i}-{j}" for j in range(i + 2)]) for i in range(4)]
        self.datasets: dict[str, list[list[int]]] = {}
        self.heads: list[tuple[str, str]] = []
        self.chosen: dict[str, list[tuple[int, list[int]]]] = {}
        self.runs: dict[str, str] = {}
        self.scores: dict[str, list[float]] = {}
        self.losses: dict[tuple[str, int], list[float]] = {}

    def size(self, shards: list[int]) -> int:
        return sum(i + 2 for i in shards)

    @rule(name=names, number=st.integers(0, 3))
    def add(self, name: str, number: int) -> None:
        versions = self.datasets.setdefault(name, [[number]])
        if [number] in versions:
            dataset = self.store.datasets.add(name, [self.shards[number]])
            assert dataset.version == versions.index([number]) + 1

    @precondition(lambda self: self.datasets)
    @rule(data=st.data(), numbers=st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True))
    def append(self, data: st.DataObject, numbers: list[int]) -> None:
        name = data.draw(st.sampled_from(sorted(self.datasets)))
        versions = self.datasets[name]
        fresh = [n for n in numbers if n not in versions[-1]]
        dataset = self.store.datasets.add(name, [self.shards[n] for n in numbers], append=True)
        if fresh:
            versions.append([*versions[-1], *fresh])
        assert dataset.ref == f"{name}@{len(versions)}"

    @precondition(lambda self: self.datasets)
    @rule(data=st.data(), name=names, seed=st.integers(0, 2), rounds=st.integers(1, 2))
    def publish(self, data: st.DataObject, name: str, seed: int, rounds: int) -> None:
        of = data.draw(st.sampled_from(sorted(self.datasets)))
        dataset = self.store.datasets.get(of)
        draw = np.random.default_rng([seed, rounds])
        chosen = [(7 * i, draw.permutation(dataset.samples)[: 2 + i].tolist()) for i in range(rounds)]
        made = [RoundData(samples, first_epoch=epoch) for epoch, samples in chosen]
        found = publish(self.store, dataset, name, seed=10 * rounds + seed, rounds=made)
        key = found.selection.key
        assert found.created == ((name, key) not in self.heads)
        assert found.confirmed == (True if key in self.chosen else None)
        self.chosen.setdefault(key, chosen)
        if found.created:
            self.heads.append((name, key))

    @rule(run=runs)
    def begin_run(self, run: str) -> None:
        self.store.runs.begin(kind="train", key=run, dataset="some@1")
        if self.runs.get(run) != "finished":
            self.runs[run] = "running"

    @rule(run=runs, value=st.floats(allow_nan=False, allow_infinity=False, width=32))
    def put_scores(self, run: str, value: float) -> None:
        self.store.runs.put_scores(run, {"entropy": [value, -value]}, [1, 0])
        self.scores.setdefault(run, [-value, value])

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), end=st.sampled_from(["finished", "failed"]))
    def end_run(self, data: st.DataObject, end: str) -> None:
        run = data.draw(st.sampled_from(sorted(self.runs)))
        if end == "finished":
            self.store.runs.finish(run)
        else:
            self.store.runs.fail(run, "no luck")
        if self.runs[run] != "finished":
            self.runs[run] = end

    @rule(run=runs, epoch=st.integers(0, 1), values=st.lists(st.floats(0, 9, width=32), min_size=1, max_size=3))
    def put_losses(self, run: str, epoch: int, values: list[float]) -> None:
        self.store.runs.put_losses(run, epoch, np.arange(len(values)), values, epoch)
        self.losses[run, epoch] = values

    @rule()
    def reopen(self) -> None:
        self.store = Store.open(self.folder / "store")

    @invariant()
    def shows_what_the_model_has(self) -> None:
        if not hasattr(self, "store"):
            return
        datasets = [
            (name, v, self.size(s)) for name, versions in self.datasets.items() for v, s in enumerate(versions, 1)
        ]
        found = [(r["dataset"], r["version"], r["samples"]) for r in self.store.datasets.all()]
        assert sorted(found) == sorted(datasets)
        nth: Counter[str] = Counter()
        heads = []
        for name, key in self.heads:
            nth[name] += 1
            heads.append((name, nth[name], key))
        assert [(s.name, s.version, s.key) for s in self.store.selections.all()] == sorted(heads)
        assert {r.key: r.status for r in self.store.runs.all()} == self.runs

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        for name, versions in self.datasets.items():
            for version, shards in enumerate(versions, 1):
                keys = [f"s{i}-{j}" for i in shards for j in range(i + 2)]
                assert self.store.datasets.get(f"{name}@{version}").keys() == keys
        for _, key in self.heads:
            selection = self.store.selections.get(key)
            for epoch, samples in self.chosen[key]:
                assert selection.round_at(epoch + 1)[0].tolist() == samples
        for run, values in self.scores.items():
            if self.runs.get(run) == "finished":
                assert self.store.runs.scores(run, "entropy", 2).tolist() == values
        shown = counts(self.store)
        assert shown["samples"] == sum(self.size(versions[-1]) for versions in self.datasets.values())
        assert shown["selection_samples"] == sum(len(s) for rounds in self.chosen.values() for _, s in rounds)
        assert shown["losses"] == sum(len(v) for (run, _), v in self.losses.items() if run in self.runs)
        assert shown["scores"] == sum(2 for run in self.scores if self.runs.get(run) == "finished")
        rows = self.store.query("select run, epoch, loss from losses order by run, epoch, sample").to_pylist()
        model = [(r, e, v) for (r, e), values in sorted(self.losses.items()) for v in values if r in self.runs]
        assert [tuple(row.values()) for row in rows] == model
        shutil.rmtree(self.folder)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
