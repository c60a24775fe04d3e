"""A service from its start to its end.

`serve(service)` finds or starts the Prefect server, takes the deployments, puts interrupted runs back, runs what is
due, and watches, until SIGTERM or Ctrl-C. Either ends it in seconds: runs under way are killed and put back on the
schedule, where the next service takes them up; schedules stay on the server; a server of its own ends with it.
"""

import contextlib
import signal
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from logging import Logger
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from tamis.flows.errors import ServerUnreachable
from tamis.flows.interrupts import unhurried
from tamis.flows.server.persistent import Persistent, default_home, persistent_server
from tamis.flows.server.settings import check_server, server_url, shown
from tamis.flows.server.temporary import tell_prefect
from tamis.flows.service import deploying
from tamis.flows.service.checking import Service
from tamis.flows.service.holding import BEAT, Holder
from tamis.flows.service.interrupted import processes, put_back, running
from tamis.flows.service.logs import service_log
from tamis.flows.service.metrics import Endpoint, Metrics
from tamis.flows.service.running import Running
from tamis.flows.service.watching import Watcher

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_TICK, _LOOK = 1.0, 5.0  # s
_SILENT = 60.0  # s without an answer of the server, after which the service is not well
_ENDING = 30.0  # s that an end may take


@dataclass
class _Serving:
    """What a service holds while it runs."""

    service: Service
    client: "SyncPrefectClient"
    holder: Holder
    runner: Running
    watcher: Watcher
    log: Logger
    own: Persistent | None
    mine: set[UUID] = field(default_factory=set)
    away: bool = False

    def tick(self, looks: bool, beats: bool) -> None:
        """Once a second: is everything still there, and what is new.

        Raises:
            RuntimeError: the runner has ended.
        """
        ended = self.runner.ended()
        if ended is not None:
            raise ended
        if self.own is not None and self.own.renew():
            self.log.warning("The Prefect server had ended, and was started again.")
        self.mine = {UUID(run) for run in processes().values()}
        try:
            if looks:
                self.watcher.look()
            if beats:
                self.holder.beat(self.client)
        except httpx.HTTPError:
            return  # the runner tells of it

    def stop(self) -> None:
        """End the runs, and put them back."""
        began, mine = time.time(), self.mine | {UUID(run) for run in processes().values()}
        self.runner.stop()
        try:
            left = [self.client.read_flow_run(run) for run in mine]
            for name in put_back(self.client, [run for run in left if _was_ended(run, began)]):
                self.log.info("run %s interrupted: it goes on when this is served again", name)
        except httpx.HTTPError as error:
            self.log.warning("The Prefect server does not answer (%s): the next service finds what was running.", error)


def serve(service: Service, form: str = "text") -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        service: a checked file.
        form: of the log: text or json.

    Raises:
        DeploymentTaken: another service has a deployment under another config, the server's folder, or a port.
        ServerUnreachable, ServerFailed: no server answers.
        SystemExit: SIGTERM; code 0.
        KeyboardInterrupt: Ctrl-C.
    """
    log = service_log(form)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_signals())
        metrics, polled = Metrics(service.store), [0.0]
        if service.metrics.enabled:
            endpoint = Endpoint(service.metrics.address, metrics, lambda: _ill(polled[0]))
            stack.callback(endpoint.stop)
            log.info("Metrics and health: %s/metrics, %s/health", endpoint.url, endpoint.url)
        own = stack.enter_context(_server(service, log))
        _serve(service, own, metrics, polled, log)


def _serve(service: Service, own: Persistent | None, metrics: Metrics, polled: list[float], log: Logger) -> None:
    from prefect.client.orchestration import get_client

    with contextlib.ExitStack() as stack:
        client = stack.enter_context(get_client(sync_client=True))
        holder = Holder(service.deployments, service.file)
        stack.callback(_release, holder, client)
        holder.take(client)
        paused = _prepare(service, client, holder, own, log)
        given = [deploying.to_prefect(one, paused=one.name in paused) for one in service.deployments]
        runner = Running(given, log)
        runner.start()
        by_id = dict(zip(runner.ids, service.deployments, strict=True))
        watcher = Watcher(client, by_id, metrics, log, lambda one: holder.leads(client, one))
        serving = _Serving(service, client, holder, runner, watcher, log, own)
        log.info("Serving %s. Ctrl-C or SIGTERM ends it.", ", ".join(one.name for one in service.deployments))
        looked = beat = time.monotonic()
        try:
            while True:
                now = time.monotonic()
                serving.tick(now - looked >= _LOOK, now - beat >= BEAT)
                looked, beat = now if now - looked >= _LOOK else looked, now if now - beat >= BEAT else beat
                polled[0] = runner.polled
                metrics.polled.set(runner.polled)
                time.sleep(_TICK)
        finally:
            serving.stop()
            log.info("Stopped. Schedules stay on the server, and runs wait for the next service.")


def _prepare(service: Service, client: "SyncPrefectClient", holder: Holder, own: Any, log: Logger) -> set[str]:
    """Say what changes on the server, and put back what an earlier service was at when it was killed.

    Returns:
        Names of the deployments that are paused, and stay so.
    """
    paused = set[str]()
    for one in service.deployments:
        about = {"deployment": one.name, "flow_name": one.table.flow}
        log.info(
            "%s %s %s: %s", one.table.flow, one.when, one.table.timezone, deploying.change(client, one), extra=about
        )
        there = deploying.find(client, one.full_name)
        if there is None:
            continue
        if there.paused:
            paused.add(one.name)
            log.warning("is paused: `tamis schedule resume %s` has it run again", one.name, extra=about)
        if holder.alone(client, one):
            for name in put_back(client, running(client, [there.id])):
                log.info("run %s was interrupted, and goes on", name, extra=about)
    for name in deploying.drop_others(client, service.deployments) if own is not None else ():
        log.info("%s is no more in %s: its schedule was removed", name, service.file)
    return paused


@contextlib.contextmanager
def _server(service: Service, log: Logger) -> Generator[Persistent | None]:
    """Within: Prefect's client finds the server; one of our own is given."""
    table = service.server
    configured = table.url or (server_url() if table.home is None and table.port is None else None)
    if configured is not None:
        try:
            check_server(configured)
        except ServerUnreachable as error:
            which = f"url under [server] in {service.file}" if table.url else "PREFECT_API_URL, or Prefect's profile"
            raise ServerUnreachable(
                f"The Prefect server at {shown(configured)} does not answer. Start it (`prefect server start`), "
                f"correct {which}, or leave that out: the service then brings a server of its own."
            ) from error
        tell_prefect(configured)
        log.info("Prefect server: %s", shown(configured))
        yield None
        return
    home = Path(table.home).expanduser().absolute() if table.home else default_home()
    log.info("Starting the Prefect server in %s (takes a few seconds) ...", home)
    with persistent_server(home, table.port, {"file": str(service.file)}) as own:
        tell_prefect(own.url)
        log.info("Prefect server: %s", own.url.removesuffix("/api"))
        yield own


@contextlib.contextmanager
def _signals() -> Generator[None]:
    """Within: SIGTERM raises SystemExit, Ctrl-C KeyboardInterrupt, once; what cleans up after it has time."""
    signals = (signal.SIGTERM, signal.SIGINT)

    def once(number: int, _frame: FrameType | None) -> None:
        for one in signals:
            signal.signal(one, lambda *_: None)  # a second Ctrl-C ends it at once: tamis.flows.interrupts hears it
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(0)

    before = {one: signal.signal(one, once) for one in signals}
    try:
        with unhurried(_ENDING):
            yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _release(holder: Holder, client: "SyncPrefectClient") -> None:
    with contextlib.suppress(httpx.HTTPError):  # who does not live holds nothing
        holder.release(client)


def _was_ended(run: Any, began: float) -> bool:
    """Whether a run's end is that of the service."""
    state = run.state
    if state is None or not state.is_final():
        return True
    return state.is_crashed() and state.timestamp.timestamp() >= began - _LOOK


def _ill(polled: float) -> str | None:
    if not polled:
        return "the service is starting"
    since = time.time() - polled
    return f"the Prefect server has not answered for {since:.0f} s" if since > _SILENT else None
