"""`tamis verify` and `tamis gc`: is everything whole, and what can go."""

from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, facts, say, size, table


@click.command()
@click.option("--shards/--no-shards", default=True, show_default=True, help="Also hash the shards of all datasets.")
@common
def verify(app: App, shards: bool) -> None:
    """Check everything in the store against its digests; exit code 1 if anything is damaged.

    Covers the log and files of every table, selections, the index, blobs and shards. Files that earlier versions
    of tamis wrote without digests count as unverifiable.

    \b
    Examples:
      tamis verify
      tamis verify --no-shards --json
    """
    from tamis.flows.progress import display, steps
    from tamis.store.upkeep.verify import verify as check

    store = app.open()
    with display():
        found = check(store, shards=shards, progress=steps("verify"))
    answer = {"checked": found.checked, "unverifiable": found.unverifiable, "problems": found.problems}

    def people() -> None:
        facts({"checked": _counts(found.checked), "unverifiable": _counts(found.unverifiable) or "none"})
        say("\n".join(found.problems) or f"{store.root.url} is whole")

    emit(answer, app.as_json, people)
    if found.problems:
        raise SystemExit(1)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@click.option(
    "--keep", default=30.0, show_default=True, type=click.FloatRange(0, 36500), help="Days of history to keep (--at)."
)
@common
def gc(app: App, dry_run: bool, keep: float) -> None:
    """Remove files that no published dataset, run or selection needs.

    Removes old log entries, merged or replaced files, and leftovers of killed writers. Keeps --keep days of history
    before a table's newest commit, and every file younger than a day. Safe while others write.

    \b
    Examples:
      tamis gc --dry-run
      tamis gc --keep 7
    """
    import datetime as dt

    from tamis.store.upkeep.collect import collect

    store = app.open()
    found = collect(store, keep=dt.timedelta(days=keep), dry_run=dry_run)
    kinds: dict[str, dict[str, Any]] = {}
    for one in found:
        kind = kinds.setdefault(one.why, {"kind": one.why, "files": 0, "bytes": 0})
        kind["files"] += 1
        kind["bytes"] += one.bytes
    total = sum(one.bytes for one in found)
    answer = {
        "dry_run": dry_run, "files": len(found), "bytes": total,
        "kinds": list(kinds.values()), "names": [one.name for one in found],
    }  # fmt: skip

    def people() -> None:
        if kinds:
            table([k | {"bytes": size(k["bytes"])} for k in kinds.values()])
        done = "would be removed" if dry_run else "removed"
        say(f"{len(found)} files, {size(total)}: {done}")

    emit(answer, app.as_json, people)


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in found.items())
