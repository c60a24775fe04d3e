"""Whole runs on a stream over HTTP on loopback: one that ends, breaks off, stalls, drips, or never answers.

The server is Python's, the stream MPEG-TS, the reader FFmpeg's. RTSP and capture devices go the same way once opened.
"""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import torch
from runkit import lit, plan
from videokit import video

from tamis.store import Store
from tamis.store.errors import ShardError
from tamis.training.errors import SourceStalled
from tamis.training.mainstream.runner import sources
from tamis.training.mainstream.runner.deploying import Deployer
from tamis.training.mainstream.runner.results import Recorder
from tamis.training.mainstream.runner.running import Options, Runner
from tamis.training.mainstream.runner.sources import open_source
from tamis.training.mainstream.runner.stopping import Control

STALL = 1.0
RUN = "live"
Serve = Callable[..., str]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a server that sends a stream, and then what `after` says; gives its URL."""
    monkeypatch.setattr(sources, "_LONGER", 0.5)
    over, servers = threading.Event(), list[ThreadingHTTPServer]()

    def start(data: bytes, after: str) -> str:
        class Camera(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if after == "no answer":
                    over.wait(30)
                    return
                self.send_response(404 if after == "not found" else 200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                try:
                    self.wfile.write(data)
                    if after == "drips":
                        while not over.wait(0.1):
                            self.wfile.write(b"\0")
                    elif after == "stalls":
                        over.wait(30)
                except OSError:  # the reader has gone
                    pass

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://user:secret@127.0.0.1:{server.server_address[1]}/stream?token=secret"

    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def street(tmp_path: Path) -> bytes:
    """40 frames with one event, as a stream."""
    return video(tmp_path / "a.ts", 40, form="mpegts", gop=5, picture=lit((10, 20))).read_bytes()


def runner(store: Store, url: str) -> Runner:
    """With a queue that holds everything, so that nothing is dropped."""
    schedule = Deployer(store, torch.device("cpu")).deploy(plan(store, [("a", 3, 10, 1)]))
    source = open_source(url, stall=STALL)
    recorder = Recorder(store, RUN, source=source.name, dataset="", config={}, seconds=0.0)
    return Runner(schedule, source, Options(queue=64, stall=STALL), recorder=recorder)


def events(store: Store) -> list[Any]:
    return [(row["begins"], row["ends"]) for row in store.query("select begins, ends from events").to_pylist()]


def reading_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name == "tamis-frames"]


def gone() -> bool:
    """Whether no thread reads any more, after no more than it may take."""
    for one in reading_threads():
        one.join(STALL + 5)
    return not reading_threads()


def test_a_stream_that_ends_ends_the_run(store: Store, serve: Serve, street: bytes) -> None:
    summary = runner(store, serve(street, "ends")).run()
    assert (summary["ended"], summary["frames"], summary["dropped"]) == ("source ended", 40, 0)
    assert [pytest.approx(pair) for pair in events(store)] == [(1.0, 1.9)]
    assert "secret" not in summary["source"]
    assert store.runs.get(RUN).status == "finished"
    assert gone()


def test_a_stream_that_breaks_off_gives_the_frames_up_to_there(store: Store, serve: Serve, street: bytes) -> None:
    summary = runner(store, serve(street[: len(street) * 3 // 4], "ends")).run()
    assert summary["ended"] == "source ended"
    assert 10 < summary["frames"] < 40


@pytest.mark.parametrize("after", ["stalls", "drips", "no answer"])
def test_a_stream_that_stalls_ends_the_run_within_its_limit(
    store: Store, serve: Serve, street: bytes, after: str
) -> None:
    """What was found before stays in the store; nothing waits longer than it may, the thread that reads neither."""
    made = runner(store, serve(street, after))
    with pytest.raises(SourceStalled, match=r"gave no frame for \d"):
        made.run()
    assert store.runs.get(RUN).status == "failed"
    assert gone()
    looks = store.query("select count(*)::int as n from looks").to_pylist()[0]["n"]
    assert (looks > 30) == (after != "no answer")


def test_a_stop_does_not_wait_for_a_silent_stream(store: Store, serve: Serve, street: bytes) -> None:
    """It takes as long as looking up from waiting does, not as long as the source may be silent."""
    source = open_source(serve(street, "stalls"), stall=60)
    schedule = Deployer(store, torch.device("cpu")).deploy(plan(store, [("a", 3, 10, 1)]))
    made, control = Runner(schedule, source, Options(queue=64, stall=60)), Control()
    seen = list[float]()

    def stop_when_all_is_seen() -> None:
        end = monotonic() + 30
        while monotonic() < end and made.figures["a"].looks < 30:
            threading.Event().wait(0.02)
        control.stop = 15
        seen.append(monotonic())

    asking = threading.Thread(target=stop_when_all_is_seen)
    asking.start()
    summary = made.run(control)
    asking.join(30)
    assert summary["ended"] == "stopped"
    assert monotonic() - seen[0] < 30  # of 60 that the source might be silent


def test_a_stream_that_is_not_there_is_refused(store: Store, serve: Serve) -> None:
    with pytest.raises(ShardError, match="cannot be opened as a live source") as refused:
        runner(store, serve(b"", "not found")).run()
    assert "secret" not in str(refused.value)
    assert gone()
