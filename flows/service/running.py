"""Runs what is due: Prefect's runner on a thread of its own, which outlives an absence of the server.

A run is a process (`python -m prefect.engine`) of this one. Prefect's own loop gives up after three answers that do not
come; here it asks on, and says once that the server is away and once that it is back. Stopping kills the runs, which is
as safe as a kill at any other moment, and puts them back on the schedule (`tamis.flows.service.interrupted`).
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import httpx

from tamis.flows.server.parent import SERVICE
from tamis.flows.service.interrupted import processes

_LOOK = 0.1  # s
_ENDING = 20.0  # s that the runner has to come to its end


class Running:
    """Serves deployments until it is stopped.

    Args:
        deployments: as Prefect has them (`tamis.flows.service.deploying.to_prefect`).
        log: is told when the server is away, and back.

    Attributes:
        ids: of the deployments on the server.
        polled: seconds since 1970 when the server was last asked for runs; 0: never.
    """

    def __init__(self, deployments: Sequence[Any], log: logging.Logger) -> None:
        self._deployments, self._log = deployments, log
        self._stop, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="tamis-runner", daemon=True)
        self._error: BaseException | None = None
        self.ids: list[UUID] = []
        self.polled = 0.0

    def start(self) -> None:
        """Register the deployments, and return when they are served.

        Raises:
            httpx.HTTPError, RuntimeError: the server does not take them.
        """
        os.environ[SERVICE] = str(os.getpid())
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def ended(self) -> BaseException | None:
        """What ended it, where it ended by itself."""
        return None if self._thread.is_alive() else self._error or RuntimeError("the runner has ended")

    def stop(self) -> None:
        """End all runs, and the runner: in seconds."""
        self._stop.set()
        end = time.monotonic() + _ENDING
        while self._thread.is_alive() and time.monotonic() < end:
            for process in processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._thread.join(_LOOK)

    def _run(self) -> None:
        # Runs inherit it: a Ctrl-C at the terminal is for the service, which ends them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for it
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from prefect.runner import Runner

        logging.getLogger("prefect.runner").setLevel(logging.WARNING)  # the service says itself what begins and ends
        runner = Runner(pause_on_shutdown=False, limit=None)
        for deployment in self._deployments:
            self.ids.append(await runner.aadd_deployment(deployment))
        async with runner:
            self._ready.set()
            away = False
            while not self._stop.is_set():
                away = await self._poll(runner, away)
                await asyncio.to_thread(self._stop.wait, runner.query_seconds)

    async def _poll(self, runner: Any, away: bool) -> bool:
        """Ask for runs that are due, and start them; whether the server was away."""
        try:
            await runner._get_and_submit_flow_runs()
        except httpx.HTTPError as error:
            if not away:
                self._log.warning("The Prefect server does not answer (%s). Asking on.", error)
            return True
        self.polled = time.time()
        if away:
            self._log.info("The Prefect server answers again.")
        return False
