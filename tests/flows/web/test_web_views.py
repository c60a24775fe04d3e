"""Every page, as HTML and as JSON, over a store with names that are hostile to HTML."""

import html
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from pagekit import ANNOTATED, CLASSES, DETECTED, FAILED, FULL, HOSTILE_ERROR, SCORED, TRAINED, Served

from tamis.flows.web.pages import VIEWS
from tamis.flows.web.views.selections import never

PAGES = [
    "/", "/datasets", "/datasets?q=digits", "/datasets/digits@1", "/datasets/digits@1?page=25",
    "/datasets/digits@1/classes",
    "/datasets/digits@1/samples/7", "/datasets/odd.name_1-2@1", "/datasets/odd.name_1-2@1/samples/2",
    "/datasets/odd.name_1-2@1/classes", "/selections", "/selections?q=some&method=random&order=dearest",
    "/selections/some-0@1", "/selections/some-0@1?k=40&kept=2&dropped=30", "/selections/some-0@1?round=1",
    "/selections/some-0@1/classes?k=9", "/selections/some-0@1/scores?k=9&metric=margin",
    "/selections/some-0@1/overlap", "/selections/some-0@1/payback", "/selections/odd@1", "/selections/odd@1/classes",
    "/selections/odd@1/scores", "/selections/odd@1/overlap", "/compare", "/compare?ref=some-0&ref=some-1&ref=some-2",
    "/runs", "/runs?kind=train&status=failed", f"/runs/{FULL[:8]}", f"/runs/{FAILED}", f"/runs/{SCORED}",
    f"/runs/{SCORED}/scores", "/losses", f"/losses/{FULL}", f"/losses/{FULL}/bands", f"/losses/{FULL}/map",
    "/detections", f"/detections/{DETECTED}", f"/detections/{DETECTED}?least=0.2&order=most+boxes&other={ANNOTATED}",
    "/packages", "/packages/doors@1", "/costs", "/sql", "/sql?q=select+count(*)+as+n+from+losses",
]  # fmt: skip


@pytest.mark.parametrize("path", PAGES)
def test_a_page_and_its_json(page: Served, path: str) -> None:
    shown = page.get(path)
    assert shown.status_code == 200, shown.text[-2000:]
    text = shown.text
    for hostile in (CLASSES[0], HOSTILE_ERROR, "<b>bold<"):
        assert hostile not in text
    assert text.count("<h1") == 1
    assert not re.search(r"\son\w+=|javascript:|\sstyle=", text.replace(html.escape(HOSTILE_ERROR), ""))
    assert len(set(ids := re.findall(r'\sid="([^"]+)"', text))) == len(ids)
    for drawn in re.findall(r"<svg.*?</svg>", text, re.S):
        ElementTree.fromstring(html.unescape(drawn) if "&" in drawn and "&lt;" not in drawn else drawn)
    address, _, query = path.partition("?")
    found = page.get(("/home" if address == "/" else address) + ".json" + (f"?{query}" if query else ""))
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/json"
    assert isinstance(found.json(), dict)


def test_every_view_is_among_these_pages() -> None:
    patterns = [re.compile(re.sub(r"{\w+}", "[^/]+", view.path) + r"\Z") for view in VIEWS]
    addresses = [path.partition("?")[0] for path in PAGES]
    assert [p.pattern for p in patterns if not any(p.match(address) for address in addresses)] == []


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing", 404, "No such page"), ("/datasets/none", 404, "none"),
        ("/selections/some-0@9", 404, "versions 1 to 1"),
        ("/selections/%3Cscript%3E", 404, "&lt;script&gt;"), ("/selections/a%27b%22c", 404, "b&#34;c"),
        ("/selections/..%2F..%2Fetc", 404, ""), ("/runs/zzz", 404, "zzz"), ("/losses/" + SCORED, 404, "no losses"),
        ("/detections/" + FULL, 400, "is a train run"), ("/datasets/digits@1?page=x", 400, "whole number from 1"),
        ("/datasets/digits@1?page=0", 400, "from 1"), ("/datasets/digits@1/samples/1498", 404, "0 to 1497"),
        ("/datasets/digits@1/samples/-1", 400, "whole number"), ("/selections?order=odd", 400, "newest, name"),
        ("/selections?q=" + "x" * 300, 400, "at most 200"), (f"/detections/{DETECTED}?least=nan", 400, "from 0 to 1"),
        ("/selections/some-0@1?round=2", 400, "from 0 to 1"),
        ("/compare?ref=some-0&ref=odd", 400, "mean different samples"),
        ("/images/digits@1/5?size=9999", 400, "96 to 1024"),
        ("/static/../app.py", 404, ""), ("/static/NOTICE", 404, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(page: Served, path: str, status: int, said: str) -> None:
    found = page.get(path)
    assert found.status_code == status
    assert said in found.text
    assert "Traceback" not in found.text


def test_an_error_as_json(page: Served) -> None:
    found = page.get("/selections/none.json")
    assert found.status_code == 404
    assert found.json()["error"] == "SelectionNotFound"


def test_home_counts_what_there_is(page: Served) -> None:
    found = page.get("/home.json").json()
    assert {name: found[name] for name in ("datasets", "samples", "selections", "runs", "failed", "packages")} == {
        "datasets": 2, "samples": 1498 + 8, "selections": 4, "runs": 6, "failed": 1, "packages": 1,
    }  # fmt: skip
    assert found["selecting"] == pytest.approx(1.5 + 2.5 + 3.5 + 0.1)


def test_a_selection_in_its_order_kept_beside_dropped(page: Served) -> None:
    chosen, weights = page.store.selections.get("some-0").read_round(0)
    shown = page.get("/selections/some-0@1.json?k=40&kept=2").json()
    assert (shown["k"], shown["of"], shown["kept_page"]["pages"]) == (40, 400, 2)
    assert [one["sample"] for one in shown["kept"]] == chosen[30:40].tolist()
    assert [one["rank"] for one in shown["kept"]] == [*range(30, 40)]
    assert [one["weight"] for one in shown["kept"]] == pytest.approx(weights[30:40].tolist())
    assert [one["sample"] for one in shown["dropped"]] == chosen[40:70].tolist()
    labels = page.store.datasets.get("digits").labels()
    assert [one["label"] for one in shown["kept"]] == labels[chosen[30:40]].tolist()


def test_dropped_goes_on_with_all_that_was_never_selected(page: Served) -> None:
    chosen = page.store.selections.get("some-0").read_round(0)[0].tolist()
    pages = [page.get(f"/selections/some-0@1.json?k=390&dropped={number}").json() for number in (1, 2, 37)]
    first, *others = [[one["sample"] for one in each["dropped"]] for each in pages]
    assert first[:10] == chosen[390:]
    rest = [*first[10:], *others[0], *others[1]]
    assert len(set(rest)) == len(rest) == 20 + 30 + (1498 - 390) % 30
    assert not set(rest) & set(chosen)
    assert max(rest) - min(rest) > 1000  # all over the dataset


@pytest.mark.parametrize("count", [1, 2, 3, 10, 97])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_never_selected_are_each_shown_once(count: int, part: float) -> None:
    chosen = np.random.default_rng(count).permutation(count)[: int(part * count)]
    rest = never(chosen, count, [*range(count - len(chosen))])
    assert sorted(rest) == sorted(set(range(count)) - set(chosen.tolist()))


def test_class_balance_of_the_first_k(page: Served) -> None:
    chosen = page.store.selections.get("some-0").read_round(0)[0][:9]
    labels = page.store.datasets.get("digits").labels()
    rows = page.get("/selections/some-0@1/classes.json?k=9").json()
    counts = np.bincount(labels[chosen], minlength=10)
    assert [row["kept"] for row in rows["rows"]] == counts.tolist()
    share = np.minimum(counts / 9, np.bincount(labels) / 1498).sum()  # what two distributions have in common
    assert rows["balance"] == pytest.approx(share)


def test_a_histogram_counts_every_finite_score_once(page: Served) -> None:
    found = page.get("/selections/some-0@1/scores.json?k=50&metric=margin").json()
    chosen = page.store.selections.get("some-0").read_round(0)[0][:50]
    assert found["without"] == 9
    assert sum(found["counts"]["all"]) == 1498 - 9
    assert sum(found["counts"]["kept"]) == int((chosen >= 9).sum())


def test_overlap_is_jaccard(page: Served) -> None:
    a, b = (set(page.store.selections.get(name).read_round(0)[0].tolist()) for name in ("some-0", "some-1"))
    found = page.get("/compare.json?ref=some-0&ref=some-1").json()
    assert found["jaccard"][0][1] == pytest.approx(len(a & b) / len(a | b))
    assert found["rows"][1]["seed"] == 1


def test_payback(page: Served) -> None:
    """Both reach .9 at their third evaluation: 6 s against 30 s; the selection has cost 1.5 s."""
    (row,) = page.get("/selections/some-0@1/payback.json").json()["rows"]
    assert row["run"] == TRAINED
    assert row["speedup"] == pytest.approx(5)
    assert row["pays_after"] == 1
    assert page.get("/costs.json").json()["rows"] == [row]


def test_losses_by_epoch(page: Served) -> None:
    found = page.get(f"/losses/{FULL}/bands.json").json()
    assert (found["rows"], found["every"]) == (3 * 1498, 1)
    losses = 1 + np.arange(1498) / 1498
    for epoch, row in enumerate(found["epochs"]):
        expected = np.quantile(np.exp(-epoch) * losses, found["shares"])
        assert row["quantiles"] == pytest.approx(expected.tolist(), rel=1e-5)
    counts = np.asarray(page.get(f"/losses/{FULL}/map.json").json()["counts"])
    assert counts.sum() == 1498


def test_a_long_history_is_told_from_a_part_of_it(page: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tamis.flows.web.views.losses.ROWS", 1000)
    monkeypatch.setattr("tamis.flows.web.views.losses.FEW", 2)
    found = page.get(f"/losses/{FULL}/bands.json").json()
    assert (found["rows"], found["every"]) == (3 * 1498, 3)  # 2 of 3 epochs, 2,996 rows of 1,000 that are looked at
    assert [row["epoch"] for row in found["epochs"]] == [0, 2]
    for row in found["epochs"]:
        assert 1498 / 5 < row["samples"] < 1498 / 2
        assert row["quantiles"][2] == pytest.approx(np.exp(-row["epoch"]) * 1.5, rel=0.05)  # the median of all
    assert np.sum(page.get(f"/losses/{FULL}/map.json").json()["counts"]) == found["epochs"][0]["samples"]


def test_frames_have_the_boxes_above_the_least_score(page: Served) -> None:
    found = page.get(f"/detections/{DETECTED}.json?other={ANNOTATED}").json()
    frame = found["frames"][0]
    assert (frame["width"], frame["height"]) == (128, 96)
    assert [(box["class"], box["x1"], box["y2"]) for box in frame["mine"]] == [(CLASSES[0], 10.0, 50.0)]
    assert [box["x1"] for box in frame["theirs"]] == [14.0]
    more: dict[str, Any] = page.get(f"/detections/{DETECTED}.json?least=0.2").json()
    assert len(more["frames"][0]["mine"]) == 2
    assert more["page"]["total"] == 8


def test_trade_offs_of_a_package(page: Served) -> None:
    found = page.get("/packages/doors@1.json").json()
    assert [one["pareto"] for one in found["candidates"]] == [False, True, True]
    # What is not shared: the segments behind the branch, and the rest.
    assert found["profiles"][0]["own_ms"] == pytest.approx([8.0, 7.0, 5.0])


def test_lists_are_pages(page: Served) -> None:
    found = page.get("/selections.json?q=some&order=name").json()
    assert [one["ref"] for one in found["selections"]] == ["some-0@1", "some-1@1", "some-2@1"]
    assert found["page"] == {"page": 1, "pages": 1, "size": 50, "total": 3, "name": "page"}
    beyond = page.get("/selections.json?q=some&page=9").json()
    assert (beyond["selections"], beyond["page"]["total"]) == ([], 3)
    found = page.get("/runs.json?kind=train&status=failed").json()
    assert [one["run"] for one in found["runs"]] == [FAILED]
    percent = page.get("/selections.json?q=100%25_").json()  # a search is no pattern
    assert percent["page"]["total"] == 0


def test_prefect_is_linked_where_it_is_configured(page: Served) -> None:
    from tamis.flows.web.pages import Pages

    shown = Pages("http://127.0.0.1:4200").html(
        "error.html", message="", status=404, section="", here="/", asked="", query=None, site_name=""
    )
    assert 'href="http://127.0.0.1:4200/runs"' in shown
    assert "4200" not in page.get("/runs").text
