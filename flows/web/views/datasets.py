"""Datasets: the list of versions, one version with its images, shards and classes, and one sample."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tamis.flows.web.asked import Page, Query, page_of, paged, span
from tamis.flows.web.asking import answer
from tamis.flows.web.site import Site
from tamis.flows.web.views.images import cells, class_of, shape
from tamis.store.datasets import Dataset

Row = dict[str, Any]
LISTED, IMAGES, SHARDS, CLASSES = 50, 60, 30, 60

_LIST = paged(
    """select dataset || '@' || version as ref, dataset, version, key, samples, shards, bytes, image, label,
              len(classes) as classes, created
       from datasets where contains(lower(dataset), lower($q))""",
    "created desc, ref",
)
_CLASSES = """
    select label, count(*) as samples, count(*) over () as classes from samples
    where dataset = $dataset and sample < $samples and label >= 0 group by label order by samples desc, label
    limit $most"""
_SCORES = """
    select s.run, s.metric, s.value from scores s
    where s.run in (select run from runs where kind = 'score' and dataset = $ref and status = 'finished'
                    order by updated desc limit 12) and s.sample = $sample
    order by s.run, s.metric limit 60"""


def listed(site: Site, _path: Mapping[str, str], query: Query) -> Row:
    """The versions of all datasets, the newest first."""
    q = query.text("q")
    page, rows = page_of(answer(site.store, _LIST, {"q": q} | span(query, LISTED)), query, LISTED)
    return {"q": q, "page": page.row(), "datasets": rows}


def one(site: Site, path: Mapping[str, str], query: Query) -> Row:
    """One version: what it consists of, and a page of its images."""
    found = site.dataset(path["ref"])
    page = Page(query.whole("page", 1, 1), IMAGES, found.samples)
    shards = Page(query.whole("shards", 1, 1), SHARDS, len(found.shards), "shards")
    shown = [asdict(shard) for shard in found.shards[shards.first : shards.last]]
    return facts(found) | {
        "page": page.row(),
        "shape": shape(site, found),
        "images": cells(site, found, range(page.first, page.last)),
        "shards_page": shards.row(),
        "shards_shown": [{n: s[n] for n in ("uri", "bytes", "count", "first_sample", "digest")} for s in shown],
        "origins": found.origins(),
    }


def classes(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """How many samples each class has; of many classes, the most frequent."""
    found = site.dataset(path["ref"])
    rows = answer(site.store, _CLASSES, {"dataset": found.name, "samples": found.samples, "most": CLASSES})
    if rows and rows[0]["classes"] <= CLASSES:
        rows.sort(key=lambda row: row["label"])
    return {
        "ref": found.ref,
        "samples": found.samples,
        "classes": rows[0]["classes"] if rows and found.has_classes else 0,
        "rows": [{"class": class_of(found, r["label"]), "samples": r["samples"]} for r in rows if found.has_classes],
    }


def sample(site: Site, path: Mapping[str, str], _query: Query) -> Row:
    """One sample: its image, where it lies, and its scores by the newest scoring runs."""
    found, number = site.dataset(path["ref"]), Query([("sample", path["sample"])]).whole("sample", 0)
    place = site.thumbnails.places(found, [number])[0]
    return {
        "ref": found.ref,
        **cells(site, found, [number])[0],
        "shape": shape(site, found),
        "shard": found.shards[place.shard].uri,
        "offset": place.offset,
        "bytes": place.size,
        "samples": found.samples,
        "scores": answer(site.store, _SCORES, {"ref": found.ref, "sample": number}),
    }


def facts(found: Dataset) -> Row:
    """What a version is."""
    names = ("ref", "name", "version", "key", "samples", "bytes", "image", "label", "has_classes")
    return {name: getattr(found, name) for name in names} | {
        "shards": len(found.shards),
        "classes": len(found.classes),
    }
