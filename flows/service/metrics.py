"""How a service is: /metrics for Prometheus, and /health.

Counters and histograms are of what this process saw; the store's figures are read anew at most once a minute.
/health answers 200 where the service polls its server, 503 where it has not for a minute, and says why.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tamis.flows.errors import DeploymentTaken
from tamis.flows.service.file import split_address
from tamis.store import Store

_FRESH = 60.0  # s
_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600)
_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TABLES = ("datasets", "runs", "selections", "packages")


class Metrics:
    """Figures of one service.

    Args:
        store: the store's root.
    """

    def __init__(self, store: str) -> None:
        self._store, self._read, self._lock = store, 0.0, threading.Lock()
        self.registry = CollectorRegistry()
        of_run = ("deployment", "flow")
        self.ended = Counter("tamis_flow_runs", "Flow runs that ended.", (*of_run, "state"), registry=self.registry)
        self.duration = Histogram(
            "tamis_flow_run_seconds", "Duration of flow runs.", of_run, buckets=_BUCKETS, registry=self.registry
        )
        self.running = Gauge("tamis_flow_runs_running", "Flow runs under way.", of_run, registry=self.registry)
        self.succeeded = Gauge(
            "tamis_last_success_timestamp_seconds", "When a run last completed.", of_run, registry=self.registry
        )
        self.polled = Gauge(
            "tamis_last_poll_timestamp_seconds", "When the server last answered.", registry=self.registry
        )
        self.rows = Gauge("tamis_store_rows", "Rows published in the store.", ("table",), registry=self.registry)
        self.free = Gauge("tamis_store_free_bytes", "Free space where the store is.", registry=self.registry)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        with self._lock:
            if time.monotonic() - self._read > _FRESH or not self._read:
                self._look()
                self._read = time.monotonic()
        return generate_latest(self.registry)

    def _look(self) -> None:
        store = Store.open(self._store)
        for table in _TABLES:
            counted = store.query(f"select count(*) as n from {table}").to_pylist()
            self.rows.labels(table).set(counted[0]["n"])
        scored = store.query("select coalesce(sum(size), 0) as n from selections").to_pylist()
        self.rows.labels("selected_samples").set(int(scored[0]["n"]))
        if store.root.path is not None:
            self.free.set(shutil.disk_usage(store.root.path).free)


class Endpoint:
    """The HTTP server of a service's figures and health.

    Args:
        address: host:port.
        metrics: what /metrics shows.
        health: what is wrong; None: nothing.

    Raises:
        DeploymentTaken: the port is in use.
    """

    def __init__(self, address: str, metrics: Metrics, health: Callable[[], str | None]) -> None:
        host, port = split_address(address)
        handler = type("_Bound", (_Handler,), {"metrics": metrics, "health": staticmethod(health)})
        try:
            self._server = ThreadingHTTPServer((host, port or 0), handler)
        except OSError as error:
            raise DeploymentTaken(
                f"{address}, where the service tells how it is, cannot be had ({error.strerror or error}): another "
                'service may have it. Give another address = "HOST:PORT" under [metrics], or enabled = false.'
            ) from error
        self._server.daemon_threads = True
        self.url = f"http://{host}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, name="tamis-metrics", daemon=True).start()

    def stop(self) -> None:
        """End it, and give the port back."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    health: Callable[[], str | None]

    def do_GET(self) -> None:
        """Answer /metrics and /health."""
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(200, self.metrics.text(), _TYPE)
        elif path == "/health":
            wrong = self.health()
            said = {"status": "ok"} if wrong is None else {"status": "failing", "why": wrong}
            self._answer(200 if wrong is None else 503, json.dumps(said).encode() + b"\n", "application/json")
        else:
            self._answer(404, b"There are /metrics and /health.\n", "text/plain")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape every few seconds is no news."""
