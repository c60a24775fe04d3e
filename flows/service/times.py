"""When a deployment runs: Prefect's schedule of it, and the next times, by the code with which its server reckons."""

import asyncio
import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

ANCHOR = dt.datetime(2020, 1, 1)  # of intervals, in the deployment's zone: a restart moves nothing


def schedule_of(cron: str | None, interval: int | None, timezone: str) -> Any:
    """The schedule as a client hands it to a server."""
    from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

    if cron is not None:
        return CronSchedule(cron=cron, timezone=timezone)
    anchor = ANCHOR.replace(tzinfo=ZoneInfo(timezone))
    return IntervalSchedule(interval=dt.timedelta(seconds=interval or 0), timezone=timezone, anchor_date=anchor)


def next_times(
    *, cron: str | None, interval: int | None, timezone: str, count: int, start: dt.datetime | None = None
) -> list[dt.datetime]:
    """The next times of a schedule, in its zone; fewer where there are no more."""
    from prefect.server.schemas import schedules

    given = schedule_of(cron, interval, timezone)
    kind: Any = schedules.CronSchedule if cron is not None else schedules.IntervalSchedule
    reckoned: Any = kind.model_validate(given.model_dump())
    try:
        return asyncio.run(reckoned.get_dates(n=count, start=start or dt.datetime.now(dt.UTC)))
    except ValueError:  # croniter looks fifty years ahead
        return []
