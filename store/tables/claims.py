"""By which claims the rows of each head table are found, told from the rows themselves.

Publishing says its claims; this says the same of rows that are there already, to make an index of them.
"""

from collections.abc import Iterable

from tamis.store.tables.log import Published, Row

FINISHED = "finished"
_BOXES = ("detect", "annotations")  # kinds of runs that have boxes


def claims_of(table: str, rows: Iterable[Row]) -> list[Published]:
    """What was published with which claims.

    Args:
        table: a head table.
        rows: all its rows, in the order of the log.
    """
    known = {
        "datasets": _datasets, "dataset_changes": _changes, "runs": _runs, "selections": _selections,
        "priorities": _priorities, "bases": _bases, "packages": _packages, "candidates": _candidates,
        "profiles": _profiles,
    }  # fmt: skip
    return known[table](rows)


def _datasets(rows: Iterable[Row]) -> list[Published]:
    return [Published((row,), {f"name/{row['dataset']}": row["version"]}) for row in rows]


def _changes(rows: Iterable[Row]) -> list[Published]:
    """A change may have several rows: one a shard that has moved."""
    together: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        together.setdefault((row["dataset"], row["change"]), []).append(row)
    return [Published(tuple(some), {f"name/{name}": change}) for (name, change), some in together.items()]


def _runs(rows: Iterable[Row]) -> list[Published]:
    found, events, ended = list[Published](), dict[str, int](), set[str]()
    for row in rows:
        run = row["run"]
        events[run] = events.get(run, 0) + 1
        claims = {f"run/{run}": events[run]}
        if row["status"] == FINISHED and run not in ended:
            ended.add(run)
            claims[f"finish/{run}"] = 1
            if row.get("attempt"):
                tables = ("boxes", "detections") if row["kind"] in _BOXES else ("scores",)
                found.append(Published((), {f"{table}/{run}": 1 for table in tables}, {"attempt": row["attempt"]}))
        found.append(Published((row,), claims))
    return found


def _selections(rows: Iterable[Row]) -> list[Published]:
    return _aliased(rows, "selection")


def _packages(rows: Iterable[Row]) -> list[Published]:
    return _aliased(rows, "package")


def _aliased(rows: Iterable[Row], column: str) -> list[Published]:
    """Things with a key, of which each further name is one of its own."""
    found, keys = list[Published](), set[str]()
    for row in rows:
        key, name = row[column], row["name"]
        own = f"named/{name}/{key}" if key in keys else f"key/{key}"
        keys.add(key)
        found.append(Published((row,), {f"name/{name}": row["version"], own: 1}))
    return found


def _priorities(rows: Iterable[Row]) -> list[Published]:
    return [Published((row,), {f"name/{row['name']}": row["version"]}) for row in rows]


def _bases(rows: Iterable[Row]) -> list[Published]:
    return [Published((row,), {f"key/{row['base']}": 1}) for row in rows]


def _candidates(rows: Iterable[Row]) -> list[Published]:
    """The first of a key is the answer to it; others of that key came from elsewhere, with packages."""
    found, keys = list[Published](), set[str]()
    for row in rows:
        key = row["candidate"]
        claims = {f"content/{row['content']}": 1} | ({} if key in keys else {f"key/{key}": 1})
        keys.add(key)
        found.append(Published((row,), claims))
    return found


def _profiles(rows: Iterable[Row]) -> list[Published]:
    return [Published((row,), {f"profile/{row['profile']}": row["version"]}) for row in rows]
