"""What charts say of a selection: its classes, its scores, and what it has in common with others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.flows.web.asked import Query
from tamis.flows.web.asking import answer
from tamis.flows.web.errors import BadQuestion
from tamis.flows.web.site import SAMPLES, Site, check_small
from tamis.flows.web.views.images import class_of
from tamis.flows.web.views.scores import score_runs, scores
from tamis.flows.web.views.selections import first
from tamis.store.keys import split_ref
from tamis.store.selections import Selection

Row = dict[str, Any]
CLASSES, OTHERS = 24, 8

_OTHERS = """
    select name || '@' || version as ref from selections
    where split_part(dataset, '@', 1) = $dataset and selection != $key
    qualify row_number() over (partition by selection order by created desc) = 1
    order by created desc limit $most"""


def classes(site: Site, path: Mapping[str, str], query: Query) -> Row:
    """The share of each class in the first k and in the dataset."""
    found = site.store.selections.get(path["ref"])
    dataset = site.dataset(found.dataset)
    _, samples, _, k = first(site, found, query)
    if not dataset.has_classes:
        return {"ref": found.ref, "k": k, "classes": 0, "rows": [], "balance": None}
    labels = site.labels(dataset)
    count = max(int(labels.max(initial=-1)) + 1, len(dataset.classes))
    every = np.bincount(labels[labels >= 0], minlength=count)
    mine = labels[samples[:k]]
    chosen = np.bincount(mine[mine >= 0], minlength=count)
    rows = [
        {
            "class": class_of(dataset, label),
            "kept": int(chosen[label]),
            "share": float(chosen[label] / max(1, chosen.sum())),
            "dataset_share": float(every[label] / max(1, every.sum())),
        }
        for label in _shown(every)
    ]
    distance = 0.5 * np.abs(chosen / max(1, chosen.sum()) - every / max(1, every.sum())).sum()
    return {"ref": found.ref, "k": k, "classes": int((every > 0).sum()), "rows": rows, "balance": 1 - float(distance)}


def _shown(every: NDArray[np.int64]) -> list[int]:
    """The classes that are drawn: all in their order, or the most frequent ones where there are many."""
    there = np.flatnonzero(every)
    if len(there) > CLASSES:
        there = there[np.argsort(-every[there], kind="stable")[:CLASSES]]
    return [int(label) for label in there]


def of_scores(site: Site, path: Mapping[str, str], query: Query) -> Row:
    """The scores of the dataset and of the first k, by the run that the selection was made from or the newest one."""
    found = site.store.selections.get(path["ref"])
    dataset = site.dataset(found.dataset)
    _, samples, _, k = first(site, found, query)
    runs = score_runs(site, dataset.ref, found.inputs)
    given = found.params.get("measure")
    drawn = scores(site, dataset, runs, query, {"kept": samples[:k]}, given if isinstance(given, str) else None)
    return {"ref": found.ref, "k": k} | drawn


def overlap(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """A selection beside the newest others of its dataset."""
    found = site.store.selections.get(path["ref"])
    name = split_ref(found.dataset)[0]
    rows = answer(site.store, _OTHERS, {"dataset": name, "key": found.key, "most": OTHERS - 1})
    return {"ref": found.ref} | matrix(site, [found, *(site.store.selections.get(row["ref"]) for row in rows)])


def compared(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """Selections of one dataset side by side."""
    return side_by_side(site, query.each("ref"))


def side_by_side(site: Site, refs: Sequence[str]) -> Row:
    """As `compared`, of given names."""
    found = [site.store.selections.get(ref) for ref in refs]
    rows = [{n: getattr(one, n) for n in ("ref", "method", "dataset", "size", "seconds", "seed")} for one in found]
    names = dict.fromkeys(name for one in found for name in one.params)
    params = {name: [one.params.get(name) for one in found] for name in names}
    differ = {name: values for name, values in params.items() if any(v != values[0] for v in values)}
    return {"refs": list(refs), "rows": rows, "params": differ} | (matrix(site, found) if found else {"names": []})


def matrix(site: Site, found: Sequence[Selection]) -> Row:
    """Jaccard's index of each two: samples in both over samples in either, over all rounds."""
    from tamis.training.reports.priority import overlap as compare

    if len(found) < 2:
        return {"names": [one.ref for one in found], "sizes": [], "jaccard": [], "correlation": []}
    datasets = {one.dataset: site.dataset(one.dataset) for one in found}
    for dataset in datasets.values():
        check_small(dataset)
    if sum(one.size for one in found) > SAMPLES:
        raise BadQuestion(f"These selections are too large to be compared here: use tamis selection overlap "
                          f"{' '.join(one.ref for one in found)}.")  # fmt: skip
    key = "overlap", *(one.key for one in found)
    made = site.arrays.get(key, lambda: compare(found, lambda one: datasets[one.dataset].samples), lambda _: 4096)
    return {
        "names": [one.ref for one in found],
        "sizes": list(made.sizes),
        "jaccard": [list(row) for row in made.jaccard],
        "correlation": [list(row) for row in made.weight_correlation],
    }
