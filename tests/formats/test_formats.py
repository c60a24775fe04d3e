"""Every released store format opens for ever: one artefact of each is kept here, and says what it always said."""

import shutil
from pathlib import Path

import pytest
from make_artefact import LOST, SCORE, TRAIN, write

from tamis.store import Store
from tamis.store.store import FORMAT

HERE = Path(__file__).parent
KEPT = sorted(HERE.glob("store-format-*.zip"))


@pytest.fixture(params=[*KEPT, "fresh"], ids=lambda p: getattr(p, "stem", p))
def artefact(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each format, and one written now, so that what writes the next artefact does not rot."""
    path = tmp_path / "store"
    if request.param == "fresh":
        return write(path)
    shutil.unpack_archive(request.param, path)
    return Store.open(path)


def test_the_present_format_is_kept() -> None:
    assert HERE / f"store-format-{FORMAT}.zip" in KEPT
    assert all(p.stat().st_size < 100_000 for p in KEPT)


def test_lists(artefact: Store) -> None:
    assert [(r["dataset"], r["version"], r["samples"], r["classes"]) for r in artefact.datasets.all()] == [
        ("three", 1, 3, ["stone-free", "with a stone"]),
        ("three", 2, 5, ["stone-free", "with a stone"]),
    ]
    assert [s.ref for s in artefact.selections.all()] == ["best@1", "pick@1", "pick@2"]
    assert {r.key: r.status for r in artefact.runs.all()} == {SCORE: "finished", TRAIN: "finished", LOST: "failed"}


def test_dataset(artefact: Store) -> None:
    old, new = artefact.datasets.get("three@1"), artefact.datasets.get("three")
    assert (old.image, old.label, old.keys(), old.labels().tolist()) == (
        "ppm",
        "cls",
        ["apple", "pear", "plum"],
        [1, 0, 1],
    )
    assert (new.keys(), new.labels().tolist()) == (["apple", "pear", "plum", "fig", "sub/date"], [1, 0, 1, 0, 1])
    assert new.verify() == []
    for shard in new.shards:
        shard.check()
        assert Path(shard.uri).is_relative_to(artefact.root.url)
    place = new.locations()
    shards = [Path(s.uri).read_bytes() for s in new.shards]
    images = [shards[i][a : a + n] for i, a, n in zip(place.shard, place.offset, place.size, strict=True)]
    assert images == [b"P6 1 1 255\n" + start for start in (b"app", b"pea", b"plu", b"fig", b"sub")]


def test_keys_are_what_they_were(artefact: Store) -> None:
    """A key that changed would make every stored answer unfindable."""
    assert [artefact.datasets.get(f"three@{v}").key for v in (1, 2)] == [
        "7d77671a9279e53242e9b9fad851e9af",
        "85eacf53e71819b2c778e050cd770bf9",
    ]
    assert artefact.selections.get("pick@1").key == "d01471ad8751612f11a1701924e97382"


def test_selections(artefact: Store) -> None:
    pick = artefact.selections.get("pick@1")
    samples, weights = pick.round_at(0)
    assert (samples.tolist(), weights.tolist()) == ([2, 0], [1.0, 0.5])
    assert pick.round_at(3)[0].tolist() == [1]
    assert (pick.dataset, pick.method, pick.params, pick.inputs) == ("three@1", "by-hand", {"why": "to keep"}, (SCORE,))
    assert [(r.first_epoch, r.size, r.objective) for r in pick.rounds] == [(0, 2, 0.125), (3, 1, None)]
    best = artefact.selections.get("best")
    assert (best.key, best.round_at(0)[0].tolist()) == (artefact.selections.get("pick@2").key, [4, 3, 0])


def test_runs(artefact: Store) -> None:
    run = artefact.runs.get("7ea1")
    assert (run.metrics, run.seconds, run.model, run.dataset) == ({"accuracy": 0.75}, {"train": 2.0}, "hand", "three@1")
    assert run.blob is not None
    assert artefact.blobs.get(run.blob) == b"the weights of a model\n"
    assert artefact.runs.get("dead").error == "no luck"
    scores = artefact.runs.scores(SCORE, "entropy", 3).tolist()
    assert (scores[0], scores[1] == scores[1], scores[2]) == (0.25, False, 0.5)


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("select count(*) from selection_samples", [(6,)]),
        ("select metric, sample, value from scores where value is not null order by all", [
            ("entropy", 0, 0.25), ("entropy", 2, 0.5), ("margin", 0, 1.0), ("margin", 1, 2.0), ("margin", 2, 3.0)]),
        ("select epoch, sum(loss), max(staleness) from losses where selected group by epoch order by epoch", [
            (0, 3.0, 0), (1, 2.0, 1)]),
        ("select key, weight from selection_samples join selections using (selection) join samples using (sample) "
         "where name = 'pick' and version = 1 and round = 0 order by rank", [("plum", 1.0), ("apple", 0.5)]),
        ("select members[1].name, members[2].name, label from samples where key = 'sub/date'", [("ppm", "cls", 1)]),
        ("select status, count(*) from runs group by status order by status", [("failed", 1), ("finished", 2)]),
        ("select count(*), min(uri) from shards", [(2, "shards/three-000000.tar")]),
    ],
)  # fmt: skip
def test_sql(artefact: Store, query: str, answer: list[tuple[object, ...]]) -> None:
    assert [tuple(row.values()) for row in artefact.query(query).to_pylist()] == answer


def test_looking_back(artefact: Store) -> None:
    asked = "select count(*) as n from datasets"
    assert [artefact.query(asked, at={"datasets": v})["n"][0].as_py() for v in (0, 1, 2)] == [0, 1, 2]


def test_losses_without_correctness(artefact: Store) -> None:
    """Stores of earlier versions lack the column: it reads as null, and reading writes nothing."""
    before = artefact.tables.versions()
    rows = artefact.query("select count(*) as n, count(correct) as known from losses").to_pylist()
    assert rows == [{"n": 6, "known": 0}]
    stats = artefact.query("select sample, mean, selected, forgetting, learnt, forgotten from loss_stats order by 1")
    # Epoch 1 has the loss of epoch 0's weights: of what was computed in its own epoch there is epoch 0 alone.
    assert [tuple(row.values()) for row in stats.to_pylist()] == [
        (0, 0.5, 2, None, None, None),
        (1, 1.5, 0, None, None, None),
        (2, 2.5, 2, None, None, None),
    ]
    newest = artefact.query("select sample, epoch, loss, staleness from losses_newest order by 1")
    assert [tuple(row.values()) for row in newest.to_pylist()] == [(0, 1, 0.5, 1), (1, 1, 1.5, 1), (2, 1, 1.5, 1)]
    found = artefact.runs.losses(TRAIN, 3)
    assert (found.losses_EN[0].tolist(), found.correct_EN.tolist()) == ([0.5, 1.5, 1.5], [[-1, -1, -1]] * 2)
    assert artefact.tables.versions() == before


def test_it_goes_on(artefact: Store) -> None:
    """What was written long ago is still the cache, and can still be added to."""
    three = artefact.datasets.get("three")
    again = artefact.datasets.add("three", [s.uri for s in three.shards])
    assert again == three
    artefact.runs.begin(kind="train", key="new", dataset=three.ref)
    artefact.runs.put_losses("new", 0, [0], [1.0], 0)
    artefact.runs.put_losses(TRAIN, 1, [0, 1], [0.25, 4.0], 1, correct=[True, False])
    artefact.runs.finish("new")
    assert artefact.query("select count(*) as n from losses")["n"][0].as_py() == 6
    asked = "select run, epoch, correct, count(*) as n from losses group by all order by all"
    assert [tuple(row.values()) for row in artefact.query(asked).to_pylist()] == [
        (TRAIN, 0, None, 3), (TRAIN, 1, False, 1), (TRAIN, 1, True, 1), ("new", 0, None, 1),
    ]  # fmt: skip
