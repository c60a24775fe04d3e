"""Scores and selections from elsewhere: what is kept is what the file says, once, and nothing that does not fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.errors import ImportRefused, SelectionError
from tamis.store.importing import import_scores, import_selection

N = 1498


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).normal(size=N)


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_every_form_of_a_file_gives_the_same_run(
    store: Store, dataset: Dataset, values: np.ndarray, tmp_path: Path
) -> None:
    order = np.random.default_rng(1).permutation(N)
    keys = np.asarray(dataset.keys())
    by_key = parquet(tmp_path / "k.parquet", key=keys[order], el2n=values[order], aum=-values[order])
    by_number = parquet(tmp_path / "n.parquet", sample=np.arange(N), aum=-values, el2n=values)
    rows = {"metric": ["el2n"] * N + ["aum"] * N, "value": [*values, *-values], "key": [*keys, *keys]}
    long = parquet(tmp_path / "l.parquet", **rows)
    pyarrow.csv.write_csv(pa.table({"key": keys, "aum": -values, "el2n": values}), tmp_path / "c.csv")
    made = [
        import_scores(store, file, "digits", name="mine", hard="higher")
        for file in (by_key, by_number, long, tmp_path / "c.csv")
    ]
    assert len({one.run.key for one in made}) == 1
    assert [one.cached for one in made] == [False, True, True, True]
    assert np.array_equal(store.runs.scores(made[0].run.key, "el2n", N), values)
    assert np.array_equal(store.runs.scores(made[0].run.key, "aum", N), -values)
    assert (made[0].run.kind, made[0].run.model, made[0].run.dataset) == ("score", "mine", "digits@1")


def test_what_is_another_question_is_another_run(
    store: Store, dataset: Dataset, values: np.ndarray, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "a.parquet", sample=np.arange(N), a=values, b=values + 1)
    asked: list[dict[str, Any]] = [
        {"name": "x", "hard": "higher"}, {"name": "y", "hard": "higher"}, {"name": "x", "hard": "lower"},
        {"name": "x", "hard": "higher", "metrics": ["a"]},
    ]  # fmt: skip
    runs = {import_scores(store, file, "digits", **one).run.key for one in asked}
    assert len(runs) == 4


def test_hardness_is_turned_the_way_that_was_declared(
    store: Store, dataset: Dataset, values: np.ndarray, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "a.parquet", sample=np.arange(N), a=values)
    for hard, sign in (("higher", 1), ("lower", -1)):
        run = import_scores(store, file, "digits", name="x", hard=hard).run  # type: ignore[arg-type]  # of a list
        assert np.array_equal(store.runs.hardness(run.key, "a", N), sign * values)


def test_missing_scores_are_refused_or_counted(
    store: Store, dataset: Dataset, values: np.ndarray, tmp_path: Path
) -> None:
    values[3] = np.nan
    values[5] = np.inf
    file = parquet(tmp_path / "a.parquet", sample=np.arange(N - 7), a=values[: N - 7])
    with pytest.raises(ImportRefused, match=r"a: 9\)"):
        import_scores(store, file, "digits", name="x", hard="higher")
    made = import_scores(store, file, "digits", name="x", hard="higher", allow_missing=True)
    assert made.missing == {"a": 9}
    assert made.run.metrics == {"samples": N, "missing": {"a": 9}}
    kept = store.runs.scores(made.run.key, "a", N)
    assert np.flatnonzero(np.isnan(kept)).tolist() == [3, 5, *range(N - 7, N)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"key": ["nobody"], "a": [1.0]}, "1 of 1 keys are not in digits@1.*'nobody'"),
        ({"sample": [N], "a": [1.0]}, "Sample 1498 is not in digits@1"),
        ({"sample": [1, 1], "a": [1.0, 2.0]}, "Sample 1 is listed more than once"),
        ({"sample": [1], "a": ["much"]}, "'a' holds string"),
        ({"sample": [1.5], "a": [1.0]}, "integers"),
        ({"a": [1.0]}, "a column `key` or `sample`"),
        ({"sample": [1]}, "no scores"),
    ],
)
def test_what_does_not_fit_is_named(
    store: Store, dataset: Dataset, columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "a.parquet", **columns)
    with pytest.raises(ImportRefused, match=said):
        import_scores(store, file, "digits", name="x", hard="higher", allow_missing=True)
    assert store.runs.all() == []


def test_what_is_no_table_is_refused(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    for name in ("a.parquet", "a.csv"):
        (tmp_path / name).write_bytes(b'"\x00\xff"x')
        with pytest.raises(ImportRefused, match="expected"):
            import_scores(store, tmp_path / name, "digits", name="x", hard="higher")
    with pytest.raises(ImportRefused, match="directory"):
        import_scores(store, tmp_path, "digits", name="x", hard="higher")


def test_a_list_is_a_selection_in_its_order(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    chosen = np.random.default_rng(2).permutation(N)[:40]
    (tmp_path / "keys.txt").write_text("\n".join(dataset.keys(chosen)) + "\n\n")
    (tmp_path / "numbers.txt").write_text("\ufeff" + "\n".join(map(str, chosen)))
    by_key = import_selection(store, tmp_path / "keys.txt", "digits", name="mine")
    by_number = import_selection(store, tmp_path / "numbers.txt", "digits", name="mine")
    assert (by_key.created, by_number.created) == (True, False)
    assert by_key.selection.key == by_number.selection.key
    samples, weights = store.selections.get("mine").round_at(7)
    assert samples.tolist() == chosen.tolist()
    assert (weights == 1).all()


def test_weights_come_along(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("sample,weight\n7,0.5\n3,2\n")
    made = import_selection(store, tmp_path / "w.csv", "digits", name="mine")
    samples, weights = made.selection.round_at(0)
    assert (samples.tolist(), weights.tolist()) == ([7, 3], [0.5, 2.0])
    (tmp_path / "n.csv").write_text("sample,weight\n7,\n3,2\n")
    with pytest.raises(SelectionError, match="finite"):
        import_selection(store, tmp_path / "n.csv", "digits", name="other")


def test_keys_that_are_numbers_must_be_said(store: Store, tmp_path: Path) -> None:
    from tamis.store.datasets.packing import pack_samples

    paths = pack_samples([(str(9 - i), {"png": b"x", "cls": b"0"}) for i in range(10)], tmp_path / "s")
    store.datasets.add("tens", paths)
    (tmp_path / "list.txt").write_text("0\n1\n")
    with pytest.raises(ImportRefused, match="--by key"):
        import_selection(store, tmp_path / "list.txt", "tens", name="x")
    for by, expected in (("key", [9, 8]), ("sample", [0, 1])):
        made = import_selection(store, tmp_path / "list.txt", "tens", name=by, by=by)  # type: ignore[arg-type]  # of a list
        assert made.selection.round_at(0)[0].tolist() == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "lists no samples"), ("nobody", "not in digits"), ("1\n1", "more than once"), ("-1", "keys")],
)
def test_lists_that_do_not_fit_are_refused(
    store: Store, dataset: Dataset, text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ImportRefused, match=said):
        import_selection(store, tmp_path / "list.txt", "digits", name="x")
    assert store.selections.all() == []


def test_names_that_were_perhaps_meant(store: Store, dataset: Dataset, tmp_path: Path) -> None:
    from tamis.store.errors import DatasetNotFound, RunNotFound, SelectionNotFound

    (tmp_path / "list.txt").write_text("1")
    import_selection(store, tmp_path / "list.txt", "digits", name="digits-hardest")
    store.runs.begin(kind="train", key="1f0c9a" + "0" * 26, dataset="digits@1")
    with pytest.raises(DatasetNotFound, match=r"Did you mean 'digits'\?"):
        store.datasets.get("digit@3")
    with pytest.raises(SelectionNotFound, match=r"Did you mean 'digits-hardest'\?"):
        store.selections.get("digits-hardets@1")
    with pytest.raises(RunNotFound, match=r"Did you mean '1f0c9a'\?"):
        store.runs.get("1f0c8a")
    with pytest.raises(DatasetNotFound) as nothing_near:
        store.datasets.get("photographs")
    assert "mean" not in str(nothing_near.value)
