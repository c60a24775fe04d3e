"""By which claims the rows of each head table are found, told from the rows themselves.

Publishing says its claims; this says the same of rows that are there already, to make an index of them.
"""

from collections.abc import Iterable

from tamis.store.tables.lives import Life, claims_of_life, is_life, life_of, said_of, thing_of
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
    def claims(row: Row) -> dict[str, int]:
        if is_life("datasets", row):
            return claims_of_life("datasets", row)
        return {f"name/{row['dataset']}": row["version"]}

    return [Published((row,), claims(row)) for row in rows]


def _changes(rows: Iterable[Row]) -> list[Published]:
    """A change may have several rows: one a shard that has moved."""
    together: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        together.setdefault((row["dataset"], row["change"]), []).append(row)
    return [Published(tuple(some), {f"name/{name}": change}) for (name, change), some in together.items()]


def _runs(rows: Iterable[Row]) -> list[Published]:
    found, events, ended, lives = list[Published](), dict[str, int](), set[tuple[str, int]](), dict[str, Life]()
    for row in rows:
        run = row["run"]
        if is_life("runs", row):
            lives[run] = life_of("runs", row)
            found.append(Published((row,), claims_of_life("runs", row)))
            continue
        events[run] = events.get(run, 0) + 1
        claims, number = {f"run/{run}": events[run]}, lives.get(run, Life()).number
        if row["status"] == FINISHED and (run, number) not in ended:
            ended.add((run, number))
            claims[f"finish/{run}"] = number
            if row.get("attempt"):
                tables = ("boxes", "detections") if row["kind"] in _BOXES else ("scores",)
                found.append(Published((), {f"{table}/{run}": number for table in tables}, {"attempt": row["attempt"]}))
        found.append(Published((row,), claims))
    return found


def _selections(rows: Iterable[Row]) -> list[Published]:
    return _aliased("selections", rows, "selection")


def _packages(rows: Iterable[Row]) -> list[Published]:
    return _aliased("packages", rows, "package")


def _aliased(table: str, rows: Iterable[Row], column: str) -> list[Published]:
    """Things with a key, of which each further name is one of its own; of a key that is not there any more, the next
    row is the first again."""
    found, claimed = list[Published](), dict[str, int]()
    leads, lives = dict[str, tuple[str, int]](), dict[str, Life]()
    for row in rows:
        if is_life(table, row):
            lives[thing_of(table, row)] = life_of(table, row)
            for key, (name, version, number) in said_of(table, row).get("heirs", {}).items():
                claimed[f"key/{key}"], leads[key] = number, (name, version)
            found.append(Published((row,), claims_of_life(table, row)))
            continue
        key, name = row[column], row["name"]
        there = key in leads and lives.get(leads[key][0], Life()).alive(leads[key][1])
        own = f"named/{name}/{key}" if there else f"key/{key}"
        claimed[own] = claimed.get(own, 0) + 1
        if not there:
            leads[key] = name, row["version"]
        found.append(Published((row,), {f"name/{name}": row["version"], own: claimed[own]}))
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
