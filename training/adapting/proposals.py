"""What a search tries next: a pure function of the seed and of what was found out before.

What: `propose` gives the proposals of a round, V numbers in [0, 1] each. "random" and the first `startup` trials of
"gp" are uniform, each of its own number alone; later ones maximise the expected improvement under a Gaussian process
that was told all trials of the rounds before (Optuna's `GPSampler`, made anew each time, so that nothing but these
decides). Proposals of one round know of each other as trials under way.
A trial that failed is told as an error of 1, the worst there is: the process is not to propose it again.
Hyperband: `Pruner` says after each epoch whether a trial goes on, by Optuna's `HyperbandPruner`, to which the trials of
the rounds before are reported as they went.
Needs Optuna, which is loaded here and no earlier, but for "random".
Cost: .2 s a proposal, and a second to load Optuna.
Source: A. Jiang, thesis, 2021, sections 4.2.2 and 4.5.2; L. Li et al., "Hyperband", JMLR 18, 2018.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tamis.training.adapting.config import AdaptOptions
from tamis.training.errors import ExtraMissing
from tamis.training.seeds import derive_seed

if TYPE_CHECKING:
    import optuna

Proposal = tuple[float, ...]
_WORST = 1.0


@dataclass(frozen=True)
class Told:
    """How a trial ended.

    Attributes:
        number: of the trial.
        proposal: what was tried.
        state: how it ended.
        value: hold-out error, the mean of the last three epochs; None where it failed.
        errors: hold-out errors by epoch.
    """

    number: int
    proposal: Proposal
    state: Literal["complete", "pruned", "failed"]
    value: float | None = None
    errors: tuple[float, ...] = ()


def rounds(options: AdaptOptions) -> list[range]:
    """The numbers of the trials that are proposed together, round by round."""
    if options.sampler == "random":
        return [range(options.trials)]
    first = min(options.startup, options.trials) if options.sampler == "gp" else 0
    later = [
        range(start, min(start + options.parallel, options.trials))
        for start in range(first, options.trials, options.parallel)
    ]
    return [range(first), *later] if first else later


def propose(
    options: AdaptOptions, numbers: range, told: Sequence[Told], *, dimensions: int, seed: int
) -> list[Proposal]:
    """The proposals of a round.

    Args:
        options: of the search.
        numbers: of its trials, one of `rounds`.
        told: all trials of the rounds before, in order.
        dimensions: V.
        seed: of the search.

    Raises:
        ExtraMissing: Optuna is not installed.
    """
    if options.sampler != "gp" or numbers.start < options.startup:
        return [_uniform(dimensions, options.levels, derive_seed(seed, "proposal", number)) for number in numbers]
    found = load_optuna()
    sampler = found.samplers.GPSampler(
        seed=derive_seed(seed, "gp", numbers.start) % 2**32, n_startup_trials=1, warn_independent_sampling=False
    )
    study, axes = found.create_study(sampler=sampler), _axes(dimensions, options.levels)
    for one in told:
        params = dict(zip(axes, _inward(one.proposal, options.levels), strict=True))
        value = _WORST if one.value is None else one.value
        study.add_trial(found.trial.create_trial(params=params, distributions=axes, value=value))
    asked = [study.ask(fixed_distributions=axes) for _ in numbers]
    return [_outward([trial.params[name] for name in axes], options.levels) for trial in asked]


class Pruner:
    """Whether a trial under way is worth its next epoch.

    Args:
        options: of the search, whose budget is in epochs.
        number: of the trial.
        told: all trials of the rounds before, in order.
        study: names the search: which bracket a trial is in follows from it and the number.
    """

    def __init__(self, options: AdaptOptions, number: int, told: Sequence[Told], study: str) -> None:
        found = load_optuna()
        assert options.budget_epochs is not None
        pruner = found.pruners.HyperbandPruner(min_resource=1, max_resource=options.budget_epochs, reduction_factor=3)
        self._study = found.create_study(study_name=study, sampler=found.samplers.RandomSampler(0), pruner=pruner)
        states = found.trial.TrialState
        for at in range(number):
            ended = next((one for one in told if one.number == at), None)
            trial = self._study.ask()  # trials of the round under way too: numbers must be right
            if ended is None or ended.value is None:
                self._study.tell(trial, state=states.FAIL)
                continue
            for epoch, error in enumerate(ended.errors, 1):
                trial.report(error, epoch)
                trial.should_prune()  # keeps what the trial had at its rungs
            self._study.tell(trial, ended.value)
        self._trial = self._study.ask()

    def is_over(self, errors: Sequence[float]) -> bool:
        """Whether the trial ends here.

        Args:
            errors: by epoch, so far.
        """
        for epoch, error in enumerate(errors, 1):
            if self._trial.user_attrs.get("heard", 0) >= epoch:
                continue
            self._trial.report(error, epoch)
            self._trial.set_user_attr("heard", epoch)
            if self._trial.should_prune():
                return True
        return False


def load_optuna() -> "Any":
    """Optuna, which says nothing of itself.

    Raises:
        ExtraMissing: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise ExtraMissing(
            "The samplers gp and hyperband need Optuna, which is not installed: pip install 'tamis[search]', or search "
            "with the sampler random."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _uniform(dimensions: int, levels: int | None, seed: int) -> Proposal:
    generator = np.random.default_rng(seed)
    if levels is None:
        return tuple(generator.random(dimensions).tolist())
    return _outward(generator.integers(levels, size=dimensions).tolist(), levels)


def _axes(dimensions: int, levels: int | None) -> "dict[str, optuna.distributions.BaseDistribution]":
    kinds = load_optuna().distributions
    axis = kinds.FloatDistribution(0.0, 1.0) if levels is None else kinds.IntDistribution(0, levels - 1)
    return {f"y{i}": axis for i in range(dimensions)}


def _inward(proposal: Proposal, levels: int | None) -> Sequence[float]:
    """As Optuna has it."""
    return proposal if levels is None else [round(value * (levels - 1)) for value in proposal]


def _outward(values: Sequence[float], levels: int | None) -> Proposal:
    """As it is recorded."""
    return tuple(float(value) if levels is None else value / (levels - 1) for value in values)
