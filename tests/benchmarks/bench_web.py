"""What pages cost on a large store: 1,000 selections, and 10^8 rows of loss history in one run.

Each page is asked for over loopback, nothing of it kept from the time before but what the server keeps by itself, with
10 selections and few losses first, then on the full store: nothing may grow with it. An image page is the page, and its
60 images in six connections, as a browser has them; each turn is another page, so no image was decoded before. Where a
Chromium is installed, the time to its first contentful paint as it says it. `TAMIS_BENCH_LOSSES` sets the rows of loss
history (10^8, in 100 epochs, takes some minutes and 1 GB to write).
"""

import json
import multiprocessing
import os
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import httpx
import numpy as np
import uvicorn
from benchlib import Result, folder

from tamis.flows.web.app import application
from tamis.flows.web.serving import take
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.datasets.packing import pack_digits
from tamis.store.selections import Request, RoundData

RUN = "1a" * 16
EPOCHS = 100
PAGES = ("/", "/selections", "/selections/n7@1", "/runs", f"/losses/{RUN}", "/datasets/digits@1")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-first-run"]  # fmt: skip


def run(quick: bool, data: Path | None) -> list[Result]:
    losses = 4_000 if quick else int(float(os.environ.get("TAMIS_BENCH_LOSSES", "1e8")))
    few, many, turns = (3, 6, 2) if quick else (10, 1_000, 7)
    with folder() as path:
        store = Store.create(path / "store")
        dataset = store.datasets.add("digits", pack_digits(path / "digits"))
        _fill(store, dataset, 0, max(few, 8), 2_000)
        before = _measured(store, turns)
        began = time.perf_counter()
        _fill(store, dataset, max(few, 8), many, losses)
        writing = time.perf_counter() - began
        after = _measured(store, turns)
        note = f"{many:,} selections, {losses:.0e} loss rows (written in {writing:.0f} s)"
        results = [
            Result(f"first byte to last, {name}", seconds * 1e3, "ms", "small store", before[name] * 1e3, None, note)
            for name, seconds in after.items()
        ]
        results += _images(store, turns, quick)
        results += _lazy(store, losses)
        return results + ([] if quick else _painted(store, turns))


def _fill(store: Store, dataset: Dataset, begin: int, end: int, losses: int) -> None:
    rng = np.random.default_rng(begin)
    for i in range(begin, end):
        chosen = rng.permutation(dataset.samples)[:600]
        store.selections.publish(
            Request(dataset, "random", 1, {"k": 600}, seed=i), f"n{i}", [RoundData(chosen)], seconds=1.0
        )
    epochs = EPOCHS if losses > 1_000_000 else 4
    samples = np.arange(max(1, losses // epochs))
    store.runs.begin(kind="train", key=RUN, dataset=dataset.ref, model="bench", config={"epochs": EPOCHS})
    for epoch in range(epochs):
        loss = np.exp(-epoch / 30) * rng.gamma(2.0, 1.0, len(samples))
        store.runs.put_losses(RUN, epoch, samples, loss, epoch, correct=loss < 1)


@contextmanager
def _served(store: Store) -> Iterator[str]:
    place = take("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(application(store), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, args=([place.listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{place.port}"
    finally:
        server.should_exit = True
        thread.join()


def _median(turns: int, work: Callable[[int], object]) -> float:
    """Median seconds; one unmeasured turn goes before."""
    taken: list[float] = []
    for turn in range(turns + 1):
        began = time.perf_counter()
        work(turn)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def _measured(store: Store, turns: int) -> dict[str, float]:
    with _served(Store.open(store.root.url)) as url, httpx.Client(base_url=url, timeout=600) as client:

        def page(path: str) -> None:
            assert client.get(path).status_code == 200

        return {path.replace(RUN, "RUN"): _median(turns, lambda _, path=path: page(path)) for path in PAGES}


def _images(store: Store, turns: int, quick: bool) -> list[Result]:
    """Asked for by another process, as a browser is one: threads of this one would take turns with the server."""
    other = multiprocessing.get_context("spawn")
    with _served(Store.open(store.root.url)) as url, ProcessPoolExecutor(1, other) as client:
        seconds = client.submit(_browse, url.removeprefix("http://"), 2 if quick else turns).result()
    return [Result("a page of 60 images, all of them", seconds * 1e3, "ms", target=None if quick else 500.0)]


def _browse(host: str, turns: int) -> float:
    """Median seconds of a page and its images, in six connections."""
    connections = threading.local()

    def get(path: str) -> bytes:
        if not hasattr(connections, "one"):
            connections.one = HTTPConnection(host, timeout=600)
        connections.one.request("GET", path)
        return connections.one.getresponse().read()

    def whole(turn: int) -> None:
        page = json.loads(get(f"/datasets/digits@1.json?page={turn + 1}"))
        assert all(list(six.map(lambda cell: get(f"{cell['image']}?size=192"), page["images"])))

    with ThreadPoolExecutor(6) as six:
        get("/images/digits@1/1400")  # what decodes is loaded
        return _median(turns, whole)


def _lazy(store: Store, losses: int) -> list[Result]:
    """What comes after the first paint."""
    with _served(Store.open(store.root.url)) as url, httpx.Client(base_url=url, timeout=600) as client:
        results: list[Result] = []
        for name in ("bands", "map"):
            began = time.perf_counter()
            found = client.get(f"/losses/{RUN}/{name}")
            note = f"status {found.status_code}, {losses:.0e} rows, after the first paint"
            results.append(Result(f"losses: {name}", time.perf_counter() - began, "s", note=note))
        return results


def _painted(store: Store, turns: int) -> list[Result]:
    chromium = shutil.which("chromium")
    if chromium is None:
        return []
    from playwright.sync_api import sync_playwright

    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    results: list[Result] = []
    with _served(Store.open(store.root.url)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        for path in PAGES:
            taken: list[float] = []
            for _ in range(turns + 1):
                page = browser.new_page()
                page.goto(url + path, wait_until="load", timeout=600_000)
                while (at := page.evaluate(paint)) is None:
                    page.wait_for_timeout(50)
                taken.append(at)
                page.close()
            name = f"first contentful paint, {path.replace(RUN, 'RUN')}"
            results.append(Result(name, statistics.median(taken[1:]), "ms", target=1000.0))
        browser.close()
    return results
