"""The flow `cull`: from all frames of a dataset to the few that teach a student, by the student first.

What: stage 0 trains the student on a small intermittent sample with the teacher's boxes, where no trained student is
given; stage 1 has the student look at everything and keeps the frames of the highest confidence loss; stage 2 has the
teacher look at those alone, and keeps the frames of the highest precision loss.
How: every step is a question to the store: a selection, a pass of a detector, scores, a training run. What an earlier
flow has answered is taken from there, so another target asks the teacher only for frames that it has not seen, and a
killed flow resumes.
Source: K. Yoshioka et al., Dataset Culling, ICIP 2019. Stage 0 is an addition: the paper's student is trained already.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tamis.curation.budget import resolve_budget
from tamis.curation.culling.detections import numbers_of, unseen
from tamis.curation.errors import BudgetError
from tamis.flows import tasks
from tamis.flows.configs import DetectConfig, Resources
from tamis.flows.detections.detecting import detect
from tamis.flows.runners import Runner
from tamis.store import Store
from tamis.store.datasets import Dataset
from tamis.store.keys import check_name
from tamis.training.config import TrainConfig
from tamis.training.detection.detecting import classes_of
from tamis.training.selecting.by_scores import SelectConfig
from tamis.training.signals.culling import CullingConfig

TAUGHT = "teacher"  # in the truth of stage 0: the teacher's boxes of its sample


class Watcher(BaseModel):
    """A detector.

    Attributes:
        model: one of your own, "module:function", or the key of a training run.
        weights: file that an own detector is given.
        classes: names of its classes by number; none: those that it declares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    weights: str | None = None
    classes: tuple[str, ...] = ()


class CullConfig(BaseModel):
    """What to cull, and by whom.

    Attributes:
        dataset: "name" or "name@version".
        teacher: whose boxes are the truth.
        student: a trained one; None: stage 0 trains `train`.
        train: how stage 0 trains a student; it gets the sample as selection, and where its truth says "teacher" the
            boxes that the teacher finds in it.
        stage0: budget of the intermittent sample that stage 0 trains on.
        first: budget of stage 1, of all frames: those that the teacher looks at.
        keep: budgets of stage 2, of all frames; a selection for each.
        measure: of stage 2: the authors' precision loss, or precision or recall alone.
        distinct: bits of 64 in which a frame has to differ from the last one kept of its camera; None: all frames are
            looked at.
        culling: how boxes are scored.
        name: of the selections; None: the dataset's name and "culled".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    teacher: Watcher
    student: Watcher | None = None
    train: TrainConfig | None = None
    stage0: str = "1%"
    first: str = "1/50"
    keep: tuple[str, ...] = Field(default=("1/300",), min_length=1)
    measure: Literal["precision_loss", "precision", "recall"] = "precision_loss"
    distinct: int | None = Field(default=None, ge=0, le=63)
    culling: CullingConfig = CullingConfig()
    name: str | None = None

    @model_validator(mode="after")
    def _one_student(self) -> "CullConfig":
        if (self.student is None) == (self.train is None):
            raise ValueError("a student is trained already or trained in stage 0: give either student or train")
        if self.train is not None and TAUGHT not in (self.train.truth or ()):
            raise ValueError(f"stage 0 trains on the teacher's boxes: give task detection and {TAUGHT!r} as truth")
        return self


def cull(runner: Runner, store: str, config: CullConfig, resources: Resources) -> dict[str, Any]:
    """Keep the frames of a dataset that teach a student most: by the student alone, then beside a teacher.

    Returns:
        The selections' name@version by budget, the runs and selections that they rest on, the frames that the teacher
        looked at, and seconds by stage.
    """
    opened = Store.open(store)
    dataset = opened.datasets.get(config.dataset)
    config = config.model_copy(update={"dataset": dataset.ref})
    stages = _Stages(runner, opened, dataset, config, resources)
    stages.check()
    pool = None if config.distinct is None else stages.distinct()
    student = config.student or stages.train()
    seen = stages.look(student, pool)
    survivors = stages.choose(stages.score(seen["run"], None), "confidence_loss", config.first, "stage1")
    taught = stages.look(config.teacher, survivors)
    scored = stages.score(seen["run"], taught["run"])
    kept = {budget: stages.choose(scored, config.measure, budget, stages.suffix(budget)) for budget in config.keep}
    runs = {"student": seen["run"], "teacher": taught["run"], "scores": scored} | stages.runs
    told = {"selections": kept, "stage1": survivors, "distinct": pool, "runs": runs, "seconds": stages.seconds}
    return {"dataset": dataset.ref, **told, "teacher_frames": stages.taught, "teacher_new": stages.fresh}


class _Stages:
    """The steps of one culling, and what they cost."""

    def __init__(
        self, runner: Runner, store: Store, dataset: Dataset, config: CullConfig, resources: Resources
    ) -> None:
        self._runner, self._store, self._dataset, self._config = runner, store, dataset, config
        self._resources = resources
        self._name = check_name(config.name or f"{dataset.name}-culled", "selection")
        self.seconds, self.runs = dict[str, float](), dict[str, str]()
        self.taught = self.fresh = 0

    def check(self) -> None:
        """Refuse what cannot go well, before anything is computed.

        Raises:
            BudgetError: budgets that do not go together.
            UnknownModelError, RunNotFound: there is no such detector.
            CurationError: classes of student and teacher that do not go together.
        """
        n, config = self._dataset.samples, self._config
        first = resolve_budget(config.first, n)
        for budget in config.keep:
            if resolve_budget(budget, n) > first:
                raise BudgetError(
                    f"{budget} of {n} frames are {resolve_budget(budget, n)}, more than the {first} that stage 1 keeps "
                    f"({config.first}): keep fewer, or raise the budget of stage 1"
                )
        taught = self._classes(config.teacher)
        student = taught if config.student is None else self._classes(config.student)
        unseen(taught).mapped(student, config.culling.mapping)
        if student:  # classes without names are called by their numbers, which boxes show
            numbers_of(unseen(student), config.culling.classes or None)

    def _classes(self, who: Watcher) -> tuple[str, ...]:
        """The names of a detector's classes; one that cannot be found or built is refused."""
        asked = DetectConfig(dataset=self._config.dataset, **who.model_dump())
        return classes_of(tasks.question(self._store, asked), self._resources.device)

    def suffix(self, budget: str) -> str:
        """What tells the selections of several budgets apart."""
        return "" if len(self._config.keep) == 1 else str(resolve_budget(budget, self._dataset.samples))

    def distinct(self) -> str:
        """Thin out frames that look like those before them."""
        assert self._config.distinct is not None
        name, bits = f"{self._name}-distinct", self._config.distinct
        made = self._runner.call(tasks.DISTINCT, self._store.root.url, self._config.dataset, name, bits)
        return self._spent("distinct", made)

    def train(self) -> Watcher:
        """Stage 0."""
        assert self._config.train is not None
        few = self._select("intermittent", self._config.stage0, "stage0", {})
        truth = self.look(self._config.teacher, few)["run"]
        truths = tuple(truth if one == TAUGHT else one for one in self._config.train.truth or ())
        filled = {"dataset": self._config.dataset, "selection": few, "truth": truths}
        train = self._config.train.model_copy(update=filled)
        made = self._runner.call(tasks.TRAIN, self._store.root.url, train, self._resources, False)
        self.runs |= {"stage0": made["run"], "stage0_truth": truth}
        self._add("stage0", self._store.runs.get(made["run"]).seconds)
        return Watcher(model=made["run"])

    def look(self, who: Watcher, selection: str | None) -> Mapping[str, Any]:
        """Have a detector look at the frames of a selection."""
        asked = DetectConfig(dataset=self._config.dataset, selection=selection, **who.model_dump())
        made = detect(self._runner, self._store.root.url, asked, self._resources)
        is_teacher = who is self._config.teacher
        self._add("teacher" if is_teacher else "student", made["seconds"])
        if is_teacher:
            self.taught += made["metrics"]["frames"]
            self.fresh += 0 if made["cached"] else made["metrics"]["frames"] - made["metrics"]["cached"]
        return made

    def score(self, student: str, teacher: str | None) -> str:
        """Score stored boxes."""
        asked = self._config.dataset, student, teacher, self._config.culling
        return self._runner.call(tasks.CULLING, self._store.root.url, *asked)

    def choose(self, scores: str, measure: str, budget: str, suffix: str) -> str:
        """Keep the hardest frames."""
        return self._select("culling", budget, suffix, {"measure": measure, "scores": (scores,)})

    def _select(self, method: str, budget: str, suffix: str, given: dict[str, Any]) -> str:
        name = f"{self._name}-{suffix}" if suffix else self._name
        asked = SelectConfig(dataset=self._config.dataset, method=method, budget=budget, name=name, **given)
        return self._runner.call(tasks.SELECT, self._store.root.url, asked, False)["selection"]

    def _spent(self, stage: str, selection: str) -> str:
        self._add(stage, {"total": self._store.selections.get(selection).seconds})
        return selection

    def _add(self, stage: str, seconds: Mapping[str, float]) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds.get("total", 0.0)
