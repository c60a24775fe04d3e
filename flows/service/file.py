"""The file of a service: what runs, when, on which server.

    store = "work"                         # --store and TAMIS_STORE go before it
    [server]                               # default: one of the service's own
    home = "/var/lib/tamis"                # its folder; or url = "http://prefect.example/api": one that is there
    [metrics]
    address = "127.0.0.1:9464"             # of /metrics and /health
    [deployments.NAME]
    flow = "score"
    cron = "0 3 * * *"                     # or interval = "6h"
    config = {dataset = "cifar10", ...}

The classes here say what each table may hold. `tamis.flows.service.checking` reads a file with them, and checks
everything that it names as well.
"""

import re
import shutil
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tamis.store.advice import did_you_mean

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
WHEN = "give either cron or interval: when it runs"
_PARTS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_INTERVAL = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_SHORTEST, _LONGEST = 10, 366 * 86_400  # s; a server is asked for runs every few seconds


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ServerTable(_Table):
    """Which Prefect server.

    Attributes:
        url: of the API of one that runs already.
        home: folder of the service's own server: its database and log; default: $XDG_STATE_HOME/tamis/service.
        port: of the service's own server, on the loopback; default: one that is free, the same each time.
    """

    url: str | None = None
    home: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "ServerTable":
        if self.url is not None and (self.home is not None or self.port is not None):
            raise ValueError("url names a server that runs already, home and port are of the service's own: give one")
        return self


class MetricsTable(_Table):
    """Where the service tells how it is.

    Attributes:
        address: host:port of /metrics, for Prometheus, and /health.
        enabled: false: nowhere.
    """

    address: str = "127.0.0.1:9464"
    enabled: bool = True

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str) -> str:
        host, port = split_address(address)
        if not host or port is None:
            raise ValueError("expected host:port, such as 127.0.0.1:9464")
        return address


class DeploymentTable(_Table):
    """A flow, its config and its schedule, under one name.

    Attributes:
        flow: a flow's name.
        cron: minute hour day month weekday.
        interval: from one run to the next, such as 90s, 30m, 6h, 1d12h; counted from midnight, 1 January 2020.
        timezone: IANA name.
        concurrency: runs at once.
        collisions: what becomes of a run that is due while as many run: skip cancels it, wait has it wait.
        on_failure: a command, as a list, or the address of a webhook, told of each run that failed.
        config: of the flow.
        resources: device, workers and batch_size, for flows that compute.
    """

    flow: str
    cron: str | None = None
    interval: str | None = None
    timezone: str = "UTC"
    concurrency: int = Field(default=1, ge=1, le=1000)
    collisions: Literal["skip", "wait"] = "skip"
    on_failure: Annotated[list[str], Field(min_length=1)] | str | None = None
    config: dict[str, Any]
    resources: dict[str, Any] = Field(default_factory=dict)

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str | None) -> str | None:
        from prefect.client.schemas.schedules import CronSchedule

        if cron is not None:
            try:
                CronSchedule(cron=cron)
            except ValueError:
                raise ValueError("expected five fields: minute hour day month weekday, such as '0 3 * * *'") from None
            if len(cron.split()) not in (1, 5) or not _comes(cron):
                raise ValueError("expected five fields that some day has, such as '0 3 * * *'")
        return cron

    @field_validator("interval")
    @classmethod
    def _is_interval(cls, interval: str | None) -> str | None:
        if interval is not None and not _SHORTEST <= seconds(interval) <= _LONGEST:
            raise ValueError("expected a time from 10s to 366d, such as 30m, 6h or 1d12h")
        return interval

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ValueError, OSError, ZoneInfoNotFoundError):  # OSError: a folder of them, such as Europe
            near = did_you_mean(timezone, available_timezones())
            raise ValueError(f"expected an IANA name, such as Europe/Paris or UTC.{near}") from None
        return timezone

    @field_validator("on_failure")
    @classmethod
    def _tells(cls, told: list[str] | str | None) -> list[str] | str | None:
        if isinstance(told, str) and (urlsplit(told).scheme not in ("http", "https") or not urlsplit(told).hostname):
            raise ValueError(
                'expected a command as a list, such as ["mail", "-s", "tamis", "me"], or an http(s) address'
            )
        if isinstance(told, list) and shutil.which(told[0]) is None:
            raise ValueError(f"there is no program {told[0]}: give its path, or correct the name")
        return told

    @model_validator(mode="after")
    def _due(self) -> "DeploymentTable":
        if (self.cron is None) == (self.interval is None):
            raise ValueError(WHEN)
        return self


class ServiceTable(_Table):
    """The whole file; deployments are looked at one by one.

    Attributes:
        store: folder or address; relative to the file.
        server: which Prefect server.
        metrics: where the service tells how it is.
        deployments: by name.
    """

    store: str | None = None
    server: ServerTable = ServerTable()
    metrics: MetricsTable = MetricsTable()
    deployments: Annotated[dict[str, Any], Field(min_length=1)]


def seconds(interval: str) -> int:
    """An interval such as 1d12h in seconds; 0 where it is none."""
    found = _INTERVAL.fullmatch(interval)
    parts = found.groups() if found else ()
    return sum(int(part or 0) * unit for part, unit in zip(parts, _PARTS.values(), strict=False))


def interval_of(seconds: int) -> str:
    """Seconds as an interval such as 1d12h."""
    parts: list[str] = []
    for name, unit in _PARTS.items():
        count, seconds = divmod(seconds, unit)
        parts += [f"{count}{name}"] if count else []
    return "".join(parts)


def split_address(address: str) -> tuple[str, int | None]:
    """Host and port of host:port; a port that is none is None."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdecimal() and int(port) < 65536 else None


def _comes(cron: str) -> bool:
    """Whether there is a day for it: there is none for 30 February."""
    import datetime as dt

    from tamis.flows.service.times import next_times

    return bool(next_times(cron=cron, interval=None, timezone="UTC", count=1, start=dt.datetime.now(dt.UTC)))
