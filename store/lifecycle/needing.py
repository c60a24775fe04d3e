"""What needs a thing, and so keeps it from being removed.

| thing | is needed by |
|---|---|
| dataset version | later versions of it, datasets derived from it, runs, selections and packages of it |
| run | selections made from it, runs whose configuration names it, prioritisation functions that it found |
| selection | runs that train on it, packages trained on it |
| package | runs of applications that use it |

Cost: the heads are read whole.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

from tamis.store.lifecycle.going import Going, runs_alive
from tamis.store.tables.log import Row
from tamis.store.tables.tables import Tables


def needed_by(tables: Tables, what: Going) -> list[str]:
    """A sentence for everything that needs what is to be removed."""
    asked: dict[str, Callable[[Tables, Going], Iterator[str]]] = {
        "datasets": _dataset, "runs": _run, "selections": _selection, "packages": _package,
    }  # fmt: skip
    return list(asked[what.table](tables, what))


def _dataset(tables: Tables, what: Going) -> Iterator[str]:
    for row in _heads(tables, "datasets"):
        later = row["dataset"] == what.thing and row["version"] > min(what.numbers)
        if later and row["version"] not in what.numbers:
            yield f"dataset {what.called}@{row['version']} has its shards"
    for row in _origins(tables):
        if row["source"] in what.said and row["dataset"] != what.thing:
            yield f"dataset {row['dataset']} was derived from {row['source']}"
    for row in runs_alive(tables):
        if row["dataset"] in what.said:
            yield f"run {row['run'][:12]} ({row['kind']}, {row['status']}) is of {row['dataset']}"
    for row in _heads(tables, "selections"):
        if row["dataset"] in what.said:
            yield f"selection {row['name']}@{row['version']} chooses from {row['dataset']}"
    for row in _heads(tables, "packages"):
        if row["dataset"] in what.said:
            yield f"package {row['name']}@{row['version']} was trained on {row['dataset']}"


def _run(tables: Tables, what: Going) -> Iterator[str]:
    key = what.thing
    for row in _heads(tables, "selections"):
        if key in (row["inputs"] or ()):
            yield f"selection {row['name']}@{row['version']} was made from run {key[:12]}"
    for row in runs_alive(tables):
        if row["run"] != key and key in _texts(json.loads(row["config"] or "null")):
            yield f"run {row['run'][:12]} ({row['kind']}, {row['status']}) was made from run {key[:12]}"
    for row in tables.rows_in_order("priorities"):
        if row["search"] == key:
            yield f"priority {row['name']}@{row['version']} was found by run {key[:12]}"


def _selection(tables: Tables, what: Going) -> Iterator[str]:
    lost = set(what.lost)
    for row in runs_alive(tables):
        if row["selection"] in lost:
            yield f"run {row['run'][:12]} ({row['kind']}, {row['status']}) trains on selection {row['selection'][:12]}"
    for row in _heads(tables, "packages"):
        if row["selection"] and (row["selection"] in what.said or row["selection"] in lost):
            yield f"package {row['name']}@{row['version']} was trained on selection {row['selection']}"


def _package(tables: Tables, what: Going) -> Iterator[str]:
    for row in runs_alive(tables):
        if what.said & _texts(json.loads(row["config"] or "null")) or set(what.keys) & _texts(row["config"]):
            yield f"run {row['run'][:12]} ({row['kind']}, {row['status']}) uses package {what.called}"


def _heads(tables: Tables, table: str) -> list[Row]:
    """The rows of what is there, with the names that things have now."""
    state = tables.state(table)
    lives, rows = tables.lives(state), tables.alive(state).to_pylist()
    return [{**row, "name": lives.called(row["name"])} for row in rows] if "name" in (rows or [{}])[0] else rows


def _origins(tables: Tables) -> list[Row]:
    """Where derived datasets come from, of those that are there."""
    there = tables.attempts(tables.state("datasets"))
    return [row for row in tables.read("dataset_origins").to_pylist() if row["attempt"] in there and row["source"]]


def _texts(value: Any) -> set[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {text for one in value.values() for text in _texts(one)} | {str(k) for k in value}
    return {text for one in value for text in _texts(one)} if isinstance(value, list) else set()
