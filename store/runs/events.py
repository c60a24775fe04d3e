"""The life of a run: begun, claimed, finished, failed, found again.

A run's rows are events, appended and never changed: `running`, then `finished` or `failed`. Its state is the newest
event in the order of the log, and `finished` is final. A run that is `running` on this machine and whose process is
gone shows as `interrupted`.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from typing import Any

from tamis.store.advice import did_you_mean
from tamis.store.errors import RunBusy, RunNotFound
from tamis.store.keys import NAME, canonical, check_name
from tamis.store.lifecycle import Removable
from tamis.store.naming.needs import publish_needing
from tamis.store.processes import is_gone, this_process, who
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.run import FAILED, FINISHED, INTERRUPTED, RUNNING, Run, newest_runs, run_of
from tamis.store.runs.lasting import Last, drop_parts, last_of, needs_of
from tamis.store.tables.heads import Barred
from tamis.store.tables.lives import Life, place_of
from tamis.store.tables.log import Log, Row
from tamis.store.tables.specs import LOG
from tamis.store.tables.tables import Tables, moment_of, now, until_claimed

PAYLOADS = ("scores", "features", "boxes")  # of which a run has one, named by the attempt that made it


class Events(Removable):
    """The events of the runs of one store."""

    table = "runs"

    def __init__(self, root: Root, tables: Tables) -> None:
        self._root, self._tables = root, tables

    @one_patience
    def begin(
        self,
        *,
        kind: str,
        key: str,
        dataset: str,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        selection: str | None = None,
        alone: bool = False,
    ) -> Run:
        """Say that a run is under way. A run that was killed is begun again under the same key.

        Args:
            kind: "train", "score", ...
            key: the run's key, from `tamis.store.keys.key_of`.
            dataset: "name@version".
            model: the model's name.
            config: plain JSON.
            selection: key of the selection it trains on.
            alone: refuse where another process, one that lives, is at it. Of several that ask at once, one gets it.

        Raises:
            RunBusy: `alone`, and another process is at it.
        """
        check_name(key, "run")
        run = Run(key, kind, dataset, model, dict(config or {}), selection, RUNNING)

        def publish() -> bool | None:
            last = self._last(key)
            if alone:
                self._check_free(key, last)
            return self._event(run, after=last) or None

        until_claimed(publish, f"Beginning run {key}")
        return run

    @one_patience
    def is_mine(self, key: str) -> bool:
        """Whether a run is under way in this very process."""
        row = self._last(key).row or {}
        return row.get("status") == RUNNING and row.get("process") == this_process()

    @one_patience
    def claim(
        self,
        *,
        kind: str,
        key: str,
        dataset: str,
        model: str | None = None,
        config: Mapping[str, Any] | None = None,
        patience: float = float("inf"),
    ) -> bool:
        """Begin a run that nobody else is at work on; False where it has ended, or somebody is.

        A run whose process is gone is taken over. Of another machine's process nothing can be told: it is taken over
        when it began longer than `patience` seconds ago.

        Args:
            kind, key, dataset, model, config: as in `begin`.
            patience: s.
        """
        check_name(key, "run")
        last = self._last(key)
        if last.row is not None:
            there, begun = run_of(last.row), moment_of(last.row["updated"])
            assert begun is not None
            late = (now() - begun).total_seconds() > patience
            if there.status in (FINISHED, FAILED) or (there.status == RUNNING and not late):
                return False
        run = Run(key, kind, dataset, model, dict(config or {}), None, RUNNING)
        return self._event(run, after=last)

    @one_patience
    def finish(
        self,
        key: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        seconds: Mapping[str, float] | None = None,
        model: str | None = None,
    ) -> Run:
        """Make a run final and, with it, its scores visible. Only the first to finish a key is heard.

        Args:
            key: the run's key.
            metrics: plain JSON.
            seconds: what took how long, s.
            model: digest of the blob that holds the trained model.
        """
        begun = self.get(key)
        if begun.status == FINISHED:
            return begun
        key = begun.key
        run = replace(
            begun, status=FINISHED, metrics=dict(metrics or {}), seconds=dict(seconds or {}), blob=model, error=None
        )

        def publish() -> Run | None:
            last = self._last(key)
            if last.row is None or self._finished(key, last.life) is not None:
                return self.get(key)
            number = last.life.number
            there = (self._tables.found("runs", f"{table}/{key}", number) for table in PAYLOADS)
            attempt = next((said.note["attempt"] for said in there if said is not None), None)
            return run if self._event(run, {f"finish/{key}": number}, attempt, after=last) else None

        return until_claimed(publish, f"Finishing run {key}")

    @one_patience
    def fail(self, key: str, error: str) -> None:
        """Record why a run ended without an answer; it may be begun again."""
        begun = self.get(key)
        readable = error.encode("utf-8", "replace").decode()
        failed = replace(begun, status=FAILED, metrics={}, seconds={}, blob=None, error=readable)

        def publish() -> bool | None:
            last = self._last(begun.key)
            over = last.row is None or self._finished(begun.key, last.life) is not None
            return over or self._event(failed, after=last) or None

        until_claimed(publish, f"Recording the end of run {key}")

    @one_patience
    def release(self, key: str) -> None:
        """Give up a run that was claimed and has not ended, so that another may claim it at once."""
        begun = self.get(key)
        if begun.status == RUNNING:
            self._event(replace(begun, status=INTERRUPTED), after=self._last(begun.key))

    @one_patience
    def find(self, key: str) -> Run | None:
        """The finished run of this key, or None."""
        row = self._end(key)
        return None if row is None else run_of(row)

    @one_patience
    def age(self, key: str) -> float:
        """How long ago a run finished, s, by the clock of the store's log, which never goes back.

        Raises:
            RunNotFound: it is not finished.
        """
        row = self._end(key)
        if row is None:
            raise RunNotFound(f"Run {key[:100]} is not finished, so it has no age.")
        log = Log(self._root, "runs")
        finished, updated = log.clock(row[LOG]) if row.get(LOG) is not None else 0, moment_of(row["updated"])
        assert updated is not None
        return max(now().timestamp(), log.clock(log.latest()) / 1000) - (finished / 1000 or updated.timestamp())

    @one_patience
    def get(self, key: str) -> Run:
        """A run by its key, or by a part of it that begins no other.

        Raises:
            RunNotFound: none, or several, begin like that.
        """
        exact = self.state(key)
        if exact is None and NAME.fullmatch(key) and (last := self._last(key)).events and last.life.gone:
            raise _removed(key)
        found = [exact] if exact else [r for r in self.all() if len(key) >= 4 and r.key.startswith(key)]
        if not found and len(lost := self._lost_like(key)) == 1:
            raise _removed(lost[0])
        if len(found) != 1:
            near = ", ".join(r.key[:12] for r in found) if found else "none"
            meant = "" if found else did_you_mean(key, [r.key[: max(len(key), 4)] for r in self.all()])
            raise RunNotFound(
                f"{key!r} names {len(found)} runs ({near}); give a run's key, or its first characters (4 or more)."
                f"{meant}"
            )
        return found[0]

    @one_patience
    def state(self, key: str) -> Run | None:
        """The run of exactly this key, or None."""
        if not NAME.fullmatch(key):
            return None
        finished = self.find(key)
        if finished is not None:
            return finished
        row = self._last(key).row
        return None if row is None else run_of(row)

    @one_patience
    def all(self) -> list[Run]:
        """Every run, the oldest first."""
        return [run_of(row) for row in newest_runs(self._tables.alive(self._tables.state("runs")))]

    @one_patience
    def restore(self, ref: str) -> list[str]:
        """Take the removal of a run back, which a part of its key also names where it begins no other removed one.

        Raises:
            NotFound: no such run was removed.
            RestoreRefused: its files were freed, or it was begun anew meanwhile.
        """
        lost = self._lost_like(ref)
        return super().restore(lost[0] if len(lost) == 1 and ref not in lost else ref)

    def _lost_like(self, start: str) -> list[str]:
        """Keys of removed runs that begin like this, with at least four characters."""
        gone = self._tables.lives(self._tables.state("runs")).gone if len(start) >= 4 else []
        return sorted({key for key, _, _ in gone if key.startswith(start)})

    def _last(self, key: str) -> Last:
        return last_of(self._tables, key)

    def _end(self, key: str) -> Row | None:
        """The event that made a run final; None where it is not, or was removed."""
        first = self._tables.found("runs", f"finish/{key}", 1) if NAME.fullmatch(key) else None
        if first is None:
            return None
        life = self._tables.life("runs", key)
        return self._finished(key, life) if life.moves else first.rows[0]

    def _finished(self, key: str, life: Life) -> Row | None:
        """The event that made a run final since it was begun last, with what became of it."""
        said = self._tables.found("runs", f"finish/{key}", life.number)
        return None if said is None or not life.alive(place_of(said.rows[0])) else said.rows[0]

    def _told(self, ref: str) -> str:
        key = self.get(ref).key
        self._check_free(key, self._last(key))
        return key

    def _check_free(self, key: str, last: Last) -> None:
        """Refuse a run whose newest event says that another process is at it."""
        row = last.row or {}
        if row.get("status") == RUNNING and row.get("process") != this_process() and not is_gone(row.get("process")):
            raise RunBusy(
                f"Run {key} is being written by {who(row.get('process'))}: wait until it ends, or use another name."
            )

    def _event(
        self, run: Run, claims: Mapping[str, int] | None = None, attempt: str | None = None, *, after: Last
    ) -> bool:
        """Add the next event of a run; False where it, or one of the claims, is taken, or the run was removed."""
        if after.row is None and after.events:
            drop_parts(self._tables, run.key)
        row = {
            "run": run.key, "kind": run.kind, "dataset": run.dataset, "model": run.model,
            "config": canonical(run.config), "selection": run.selection, "status": run.status,
            "metrics": canonical(run.metrics),
            "seconds": canonical(run.seconds), "blob": run.blob, "error": run.error,
            "code": metadata.version("tamis"), "updated": now(), "attempt": attempt, "process": this_process(),
        }  # fmt: skip
        claimed = {f"run/{run.key}": after.events + 1, **(claims or {})}
        needs = needs_of(run) if run.status == RUNNING else []
        stays = {f"moves/{run.key}": after.life.moves + 1}
        try:
            return publish_needing(self._tables, "runs", [row], claimed, needs, stays)
        except Barred:
            return False


def _removed(key: str) -> RunNotFound:
    return RunNotFound(
        f"Run {key} was removed. `tamis run restore {key}` undoes that until its files are freed (tamis gc)."
    )
