"""What selecting frames cost: every pass that a selection rests on, each once.

What: `selecting` follows a selection to the scores that it was made by, to the boxes behind them, and to the selections
that said which frames a detector looks at, and adds up their seconds:

    stage0      what came before the student looked: thinning the frames, with the features that may rest on, and, where
                the student was trained on this dataset, its training and the teacher's pass for that
    student     the student's pass
    teacher     the teacher's passes; where the chain has none of it, its part of the frames that were trained on
    choosing    scoring boxes, and the selection steps

How: a detector's seconds are those of the detector alone, over all frames of its pass, also those that an earlier pass
had looked at. Annotations cost nothing here, and neither do models that were there before: the teacher, and a student
that was trained on another dataset.
Cost: one read of the runs and of the selections' heads.
Source: K. Yoshioka et al., Dataset Culling, ICIP 2019, section 3: the student's inference on everything, the teacher's
on what is left.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tamis.store import Store
from tamis.store.boxes import DETECT
from tamis.store.errors import RunNotFound
from tamis.store.runs import Run
from tamis.store.selections import Selection


@dataclass
class Selecting:
    """Seconds of selecting, by part; see the module."""

    stage0: float = 0.0
    student: float = 0.0
    teacher: float = 0.0
    choosing: float = 0.0

    @property
    def total(self) -> float:
        return self.stage0 + self.student + self.teacher + self.choosing


@dataclass(frozen=True)
class Pass:
    """A detector's pass.

    Attributes:
        role: "student" or "teacher".
        run: its key.
        model: the detector's name.
        frames: that it looked at.
        ms: a frame; None where that is not known.
    """

    role: str
    run: str
    model: str | None
    frames: int
    ms: float | None


@dataclass(frozen=True)
class Chain:
    """What a training run on a selection rests on.

    Attributes:
        seconds: by part.
        passes: of detectors.
    """

    seconds: Selecting
    passes: tuple[Pass, ...]


def selecting(store: Store, chosen: Selection | None, truth: Run | None, frames: int, heads: "Heads") -> Chain:
    """What a training run had cost before it began.

    Args:
        store: the store.
        chosen: what it was trained on; None for everything.
        truth: whose boxes it learnt.
        frames: that it was trained on.
        heads: the selections of the store.
    """
    walk = _Walk(store, heads)
    if chosen is not None:
        walk.selection(chosen, first=False)
    if truth is not None:
        walk.truth(truth, frames)
    return Chain(walk.seconds, tuple(walk.passes.values()))


Heads = Mapping[str, Selection]


def heads_of(store: Store) -> dict[str, Selection]:
    """The selections of a store, by key; the first name of each."""
    return {one.key: one for one in reversed(store.selections.all())}


def pass_of(run: Run, role: str) -> Pass:
    """A run of boxes as a pass; milliseconds are those of the frames that the run itself asked the detector for."""
    frames, ms = int(run.metrics.get("samples", 0)), run.metrics.get("ms")
    if ms is None and frames and "total" in run.seconds:
        ms = 1e3 * run.seconds["total"] / frames
    return Pass(role, run.key, run.model, frames, ms if run.kind == DETECT else None)


class _Walk:
    """Goes from a selection to what it rests on; adds up everything once."""

    def __init__(self, store: Store, heads: Heads) -> None:
        self._store, self._heads = store, heads
        self._seen, self._teachers = set[str](), set[str]()
        self.seconds, self.passes = Selecting(), dict[str, Pass]()

    def selection(self, chosen: Selection, *, first: bool) -> None:
        """Choosing, and the runs that it rests on.

        Args:
            chosen: a selection.
            first: it said what the student looks at, or is behind such a one.
        """
        if chosen.key in self._seen:
            return
        self._seen.add(chosen.key)
        parts = chosen.stats.get("seconds")
        if not isinstance(parts, dict) or "select" not in parts:  # made by hand: its seconds are all that is known
            self._add("choosing", chosen.seconds, first=first)
            return
        self._add("choosing", float(parts["select"]), first=first)
        for key in chosen.inputs:
            self._run(key, first=first)

    def truth(self, run: Run, frames: int) -> None:
        """The boxes that were learnt, where the chain has none of that teacher."""
        if run.kind != DETECT or str(run.config.get("model")) in self._teachers:
            return
        looked = self.passes.setdefault(run.key, pass_of(run, "teacher"))
        if looked.frames and run.key not in self._seen:
            self.seconds.teacher += run.seconds.get("total", 0.0) * min(frames / looked.frames, 1.0)

    def _run(self, key: str, *, first: bool) -> None:
        run = self._find(key)
        if run is None or key in self._seen:
            return
        if run.kind == DETECT:
            self._detector(run, "student", first=first)
            return
        self._seen.add(key)
        self._add("choosing", run.seconds.get("total", 0.0), first=first)
        for role in ("student", "teacher"):
            looked = self._find(run.config.get(role))
            if looked is not None and looked.kind == DETECT:
                self._detector(looked, role, first=first)
        model = run.config.get("model_run")
        if model is not None:  # of features and of scores by a model
            self._run(model, first=first)

    def _detector(self, run: Run, role: str, *, first: bool) -> None:
        if role == "teacher":
            self._teachers.add(str(run.config.get("model")))
        if run.key in self._seen:
            return
        self._seen.add(run.key)
        self.passes[run.key] = pass_of(run, role)
        self._add(role, run.seconds.get("total", 0.0), first=first)
        self._selected(run, first=first or role == "student")
        trained = self._find(run.config.get("model_run")) if role == "student" else None
        if trained is not None and trained.dataset == run.dataset:
            self._stage0(trained)

    def _stage0(self, trained: Run) -> None:
        """The training of a student on the dataset that is culled, and what that rests on."""
        if trained.key in self._seen:
            return
        self._seen.add(trained.key)
        self._add("stage0", trained.seconds.get("total", 0.0), first=True)
        self._selected(trained, first=True)
        for key in trained.config.get("truth") or ():
            truth = self._find(key)
            if truth is not None and truth.kind == DETECT and truth.dataset == trained.dataset:
                self._detector(truth, "teacher", first=True)

    def _selected(self, run: Run, *, first: bool) -> None:
        """What said which frames a run is of."""
        before = None if run.selection is None else self._heads.get(run.selection)
        if before is not None:
            self.selection(before, first=first)

    def _add(self, part: str, seconds: float, *, first: bool) -> None:
        name = "stage0" if first else part
        setattr(self.seconds, name, getattr(self.seconds, name) + seconds)

    def _find(self, key: str | None) -> Run | None:
        """A run; None where none is named, or it is of another store (an import)."""
        try:
            return None if key is None else self._store.runs.get(key)
        except RunNotFound:
            return None
