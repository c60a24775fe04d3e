"""What a model learns: tasks, by name. Importing them loads no torch."""

from tamis.training.errors import TaskError
from tamis.training.tasks.classification import Classification
from tamis.training.tasks.contract import Task
from tamis.training.tasks.detection import Detection
from tamis.training.tasks.regression import Regression

CLASSIFICATION, DETECTION = Classification(), Detection()
TASKS: dict[str, Task] = {one.name: one for one in (CLASSIFICATION, Regression(), DETECTION)}


def get_task(name: str) -> Task:
    """A task by its name.

    Raises:
        TaskError: there is none; names those there are.
    """
    if name not in TASKS:
        raise TaskError(f"No task {name!r}: expected one of {', '.join(TASKS)}.")
    return TASKS[name]
