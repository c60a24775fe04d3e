"""What can go wrong while training, beside what the store already names (`tamis.store.errors`)."""

from tamis.store.errors import TamisError


class DecodeError(TamisError, ValueError):
    """The bytes of a member are not what its suffix says, or do not fit the batch."""


class DecoderRefused(TamisError, PermissionError):
    """A member whose suffix is not on the list of decoders: nothing is guessed, unpickled or executed."""


class SchemeRefused(TamisError, PermissionError):
    """A shard at an address that this reader does not open."""


class UnknownModelError(TamisError, KeyError):
    """No model of this name."""


class UnknownOwnMethod(TamisError, KeyError):
    """A method of one's own that cannot be imported, or is none."""


class UnknownScorer(TamisError, KeyError):
    """No scorer of this name, or one of one's own that cannot be imported, or is none."""


class CheckpointError(TamisError, ValueError):
    """A model or checkpoint file that is damaged, or belongs to something else."""


class NonFiniteLoss(TamisError, ArithmeticError):
    """The training loss is NaN or infinite: the run has diverged, or its data holds such numbers."""


class TrainingEnded(TamisError, RuntimeError):
    """The process of a training run ended without its result."""


class RecordingRefused(TamisError, ValueError):
    """Losses that cannot be recorded: wrong lengths or numbers, or a run that is finished or of another dataset."""


class AugmentError(TamisError, ValueError):
    """An augmentation that does not fit the images."""


class LabelError(TamisError, ValueError):
    """Labels that a model cannot be trained on or judged by: none at all, or more classes than the model has."""


class TaskError(TamisError, ValueError):
    """No task of this name, or one that a strategy, scorer or method is not made for."""


class BaseModelError(TamisError, ValueError):
    """A network that cannot be the base of others: it cannot be traced, or narrows to one tensor nowhere."""


class TreeError(TamisError, ValueError):
    """Applications that cannot run over one base model, or one that is not among them."""


class HeadError(TamisError, ValueError):
    """A model whose last layer is not one that gradients can be taken of in the way asked for."""


class StrategyError(TamisError, ValueError):
    """A strategy that is unknown, or parameters that it does not have or cannot have."""


class SearchError(TamisError, ValueError):
    """A search for a prioritisation function that cannot be made as asked, or in which no trial came to an end."""


class EventsError(TamisError, ValueError):
    """Events, rates or labels that the event model cannot work with."""


class RunnerError(TamisError, ValueError):
    """A schedule, a source or labels that cannot be run as asked, or applications that all failed."""


class SourceStalled(TamisError, TimeoutError):
    """A source of frames that gave none for longer than it was given."""


class StateMismatch(TamisError, ValueError):
    """A stream's saved state that belongs to another selection or seed."""


class WorkerDied(TamisError, RuntimeError):
    """A worker process that could not be started, gave no sign of life, or was killed, perhaps for want of memory."""


class WrongKind(TamisError, TypeError):
    """A value of another kind than was expected: a name in place of a selection, a text in place of a number."""


class ModelFailed(TamisError, RuntimeError):
    """A user's own model raised; the message has its error and its own frames."""


class MethodFailed(TamisError, RuntimeError):
    """A user's own method raised; the message has its error and its own frames."""


class ScorerFailed(TamisError, RuntimeError):
    """A user's own scorer raised; the message has its error and its own frames."""


class ScoreError(TamisError, ValueError):
    """A user's own scorer that declares or returns something other than one number per sample and metric."""


class DeviceError(TamisError, ValueError):
    """A device that is not here, or is none."""


class DestinationTaken(TamisError, FileExistsError):
    """Where curated shards should go lies something else under the same names."""


class ReportError(TamisError, ValueError):
    """Runs or selections that cannot be reported on, or drawn, as asked."""


class ExtraMissing(TamisError, ImportError):
    """A package that only one of tamis' extras installs."""
