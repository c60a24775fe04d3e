"""What a job saved of a stream, read with suspicion: a stream's own state, or the states that a loader took of it.

What: `canonical` finds the one state that counts in whatever a job saved; `position_of` turns it into a position.
How: worker w of W delivers batches w, w + W, ... of an epoch and the loader hands them out in turn. So what the job has
consumed ends where the first batch begins that its worker has not delivered: the least of the workers'
`samples_consumed`. A StatefulDataLoader asks its workers only every `snapshot_every_n_steps` and counts the steps
since: each is one batch further.
Everything in a state is data: types and ranges are checked, and what does not fit is refused, never guessed.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tamis.training.errors import StateMismatch
from tamis.training.streaming.resume import Position

State = Mapping[str, Any]
Size = Callable[[int], int | None]  # samples of an epoch, None where that is not known yet

_MAX = 2**63 - 1
_DEPTH = 16  # of mappings in mappings; a loader's state has five
_LEAST = {"epoch", "samples_consumed"}
_WORKER = {"begin", "taken", "worker", "workers"}
_SHARE = {"batch_size", "world", "item"}  # states of earlier versions lack these
_KNOWN = {"selection", "seed", "order"} | _LEAST | _WORKER | _SHARE
_STEP = "step"  # positions of a step of the loader, in what `_of_loader` makes
_STEPS, _SNAPSHOT, _MAIN, _SAMPLER = "_steps_since_snapshot", "_snapshot", "_main_snapshot", "_sampler_iter_state"


def canonical(state: Any, identity: State, size: Size) -> State:
    """The state that counts.

    Args:
        state: a stream's, or anything that holds the states of a stream's workers.
        identity: what the stream is of: the selection, the seed, and the order if it is not the usual one.
        size: how many samples an epoch has; None where that is not known yet.

    Raises:
        StateMismatch: there is none of that selection, seed and order, or numbers in it contradict each other.
    """
    found = [one for one in _states(state, identity, 0) if _of(one) == identity]
    if not found:
        raise StateMismatch(
            f"{_shown(state)} is not a state of this stream, which is of {dict(identity)}. Load it into a stream over "
            "the same selection with the same seed and order."
        )
    least = min(found, key=lambda one: (one["epoch"], one["samples_consumed"]))
    samples = size(least["epoch"])
    if samples is None or least["samples_consumed"] <= samples:
        return least
    if least["samples_consumed"] - samples >= least.get(_STEP, 1):  # an epoch's last batch may be shorter
        raise StateMismatch(
            f"{_shown(least)} is not a state of this stream: epoch {least['epoch']} has positions 0 to {samples}."
        )
    return {**least, "samples_consumed": samples}


def position_of(state: State, info: Any) -> Position:
    """The position that a state names: in a worker, that worker's own, where the state is of one.

    Raises:
        StateMismatch: a worker is given the state of another one.
    """
    if info is None or "worker" not in state:
        return Position(state["epoch"], state["samples_consumed"])
    if (info.id, info.num_workers) != (state["worker"], state["workers"]):
        raise StateMismatch(
            f"Worker {info.id} of {info.num_workers} got the state of worker {state['worker']} of {state['workers']}: "
            "give the loader's whole state to the stream's load_state_dict and create a new loader."
        )
    return Position(state["epoch"], state["begin"], state["taken"], info.id, info.num_workers)


def _of(state: State) -> dict[str, Any]:
    return {name: state.get(name) for name in ("selection", "seed", "order") if name in state}


def _states(state: Any, identity: State, depth: int) -> Iterator[State]:
    if not isinstance(state, Mapping) or depth > _DEPTH:
        return
    if state.keys() >= _LEAST:
        yield _checked(state)
    elif _SNAPSHOT in state and _STEPS in state:
        workers = [one for one in _states(state[_SNAPSHOT], identity, depth + 1) if _of(one) == identity]
        if workers:
            yield _of_loader(state, workers)
    else:
        for value in state.values():
            yield from _states(value, identity, depth + 1)


def _checked(state: State) -> State:
    """A stream's state whose numbers are numbers in range."""
    unknown = sorted(map(str, state.keys() - _KNOWN))
    if unknown:
        raise StateMismatch(f"{_shown(state)} is not a state of a stream: unknown entries {', '.join(unknown)[:200]}.")
    some = _WORKER if state.keys() & (_WORKER | _SHARE) else set[str]()
    for name in sorted(_LEAST | some | (state.keys() & _SHARE)):
        _number(state, name, least=1 if name in ("workers", *_SHARE) else 0)
    if some and (state["worker"] >= state["workers"] or state["begin"] > state["samples_consumed"]):
        raise StateMismatch(f"{_shown(state)} is not a state of a stream: its numbers contradict each other.")
    return state


def _of_loader(state: State, workers: list[State]) -> State:
    """The state of a StatefulDataLoader as one position: its last snapshot and the steps since.

    It is one position only where each step took one batch of the stream: otherwise one worker is ahead of another.
    """
    steps, count = _number(state, _STEPS), len(workers)
    if "worker" not in workers[0]:
        if steps or count > 1:
            raise StateMismatch(f"{_shown(state)}: the loader's state does not say which worker delivered what.")
        return workers[0]
    if sorted((w["worker"], w["workers"]) for w in workers) != [(i, count) for i in range(count)]:
        raise StateMismatch(f"{_shown(state)}: the loader's state has {count} workers, and not each of them once.")
    least = min(workers, key=lambda one: one["samples_consumed"])
    own = {tuple(w.get(name) for name in ("epoch", "begin", *sorted(_SHARE))) for w in workers}
    if len(own) > 1 or not _in_turn(workers, least) or (steps and _a_step(state, least) != least["batch_size"]):
        raise StateMismatch(
            f"A loader's state, {steps} steps after its last snapshot, cannot be resumed here: its steps are not known "
            "to be whole batches of the stream. Let the loader pass on the stream's own batches (yields='batches', "
            "batch_size=None) or save its state at a snapshot; a StatefulDataLoader with the same number of workers "
            "resumes from it as it is."
        )
    step = least["batch_size"] * least["world"] if steps else 1
    return {
        **_of(least), "epoch": least["epoch"], "samples_consumed": least["samples_consumed"] + steps * step, _STEP: step
    }  # fmt: skip


def _in_turn(workers: list[State], least: State) -> bool:
    """Whether all that the workers delivered ends at one position, where the states say enough to know."""
    if "world" not in least:
        return True
    taken, world = sum(one["taken"] for one in workers), least["world"]
    return least["begin"] + (taken - 1) * world < least["samples_consumed"] <= least["begin"] + taken * world


def _a_step(state: State, worker: State) -> int | None:
    """Samples that a loader's step took; None where its state does not say."""
    main = state[_SNAPSHOT].get(_MAIN)
    if "item" not in worker or not isinstance(main, Mapping):
        return None
    sampler, steps = main.get(_SAMPLER), main.get("_sampler_iter_yielded")
    if sampler is None:  # batch_size=None: what the stream yields is passed on as it is
        return worker["item"]
    items = sampler.get("samples_yielded") if isinstance(sampler, Mapping) else None
    whole = type(items) is int and type(steps) is int and steps > 0 and items % steps == 0
    return worker["item"] * items // steps if whole else None


def _number(state: State, name: str, least: int = 0) -> int:
    number = state.get(name)
    if type(number) is not int or not least <= number <= _MAX:
        raise StateMismatch(
            f"{_shown(state)} is not a state of a stream: {name} is {_shown(number)}, expected a whole number from "
            f"{least} to 2^63 - 1."
        )
    return number


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more digits than Python prints; mappings without end
        text = f"a {type(value).__name__}"
    return text if len(text) <= 300 else text[:300] + " ..."
