"""`tamis verify` and `tamis gc`: is everything whole, and what can go."""

from typing import TYPE_CHECKING, Any

import click

from tamis.flows.cli.common import App, Days, common
from tamis.flows.cli.output import emit, facts, say, size, table

if TYPE_CHECKING:
    from tamis.store.upkeep.retention import Retired

_SHOWN = 20  # versions that a rule is about, for people


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
@click.option("--versions", type=click.IntRange(1), help="First remove versions of names beyond the newest N.")
@click.option("--older-than", type=Days(), metavar="DAYS", help="First remove versions older than this: 90d, 12h.")
@click.option(
    "--of",
    "tables",
    multiple=True,
    type=click.Choice(["selections", "packages", "runs"]),
    help="What --versions and --older-than apply to; may be repeated. Default: selections.",
)
@common
def gc(
    app: App, dry_run: bool, keep: float, versions: int | None, older_than: float | None, tables: tuple[str, ...]
) -> None:
    """Remove files that no published dataset, run or selection needs.

    Removes old log entries, merged or replaced files, leftovers of killed writers, and files of what was removed (rm)
    more than --keep days ago. Keeps --keep days of history before a table's newest commit, and every file younger than
    a day. Safe while others write.

    With --versions or --older-than, old versions are removed first, as by rm: never the newest of a name, never
    what something else needs, and restorable until freed. With both, only what is beyond N and older.

    \b
    Examples:
      tamis gc --dry-run
      tamis gc --keep 7
      tamis gc --versions 10 --older-than 90d --dry-run
      tamis gc --versions 3 --of selections --of runs
    """
    import datetime as dt

    from tamis.store.upkeep.collect import collect
    from tamis.store.upkeep.retention import Rule, retire

    store = app.open()
    if tables and versions is None and older_than is None:
        raise click.UsageError("--of needs --versions N or --older-than DAYS.")
    rule = None
    if versions is not None or older_than is not None:
        rule = Rule(versions or 1, dt.timedelta(days=older_than or 0))
    retired = [] if rule is None else retire(store, rule, tables or ("selections",), dry_run=dry_run)
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
        "retired": [vars(one) for one in retired if one.needed_by is None],
        "needed": [vars(one) for one in retired if one.needed_by is not None],
    }  # fmt: skip

    def people() -> None:
        if rule is not None:
            _tell_retired(retired, dry_run)
        if kinds:
            table([k | {"bytes": size(k["bytes"])} for k in kinds.values()])
        done = "would be removed" if dry_run else "removed"
        say(f"{len(found)} files, {size(total)}: {done}")

    emit(answer, app.as_json, people)


def _tell_retired(retired: "list[Retired]", dry_run: bool) -> None:
    kept = [one for one in retired if one.needed_by is not None]
    rows = [{"of": one.table, "what": one.ref, "kept, because": one.needed_by or ""} for one in retired[:_SHOWN]]
    if rows:
        table(rows)
    done = "would be removed" if dry_run else "removed"
    say(f"{len(retired) - len(kept)} old versions {done}; {len(kept)} are needed and stay")


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in found.items())
