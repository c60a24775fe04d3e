"""Drafts: selections whose rounds are still being made, by a training run that chooses again as it goes.

A draft has the key that its selection will have. Each round is a file of its own. One that says what is going to be
read (`add`) is written once, before anything is trained on it: a training run that is killed finds the rounds that it
made and goes on with them. One that says what was trained on (`record`) is written when its epoch is over, and again
where a killed run repeats the epoch. When all are there they are published as one selection, and the draft is removed.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tamis.store.errors import SelectionError, SelectionNotFound
from tamis.store.roots.roots import Root
from tamis.store.selections import Round, RoundData

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DraftRound:
    """A round as it was made: what is published of it, and what is worth knowing about it."""

    data: RoundData
    notes: dict[str, Any]


class Draft:
    """The rounds made so far.

    Args:
        root: of the store.
        key: that the selection will have.
        dataset: "name@version" that the rounds choose from.
        order: what the order follows from in which an epoch is read; by default the key.

    A stream takes a draft for a selection: rounds that are added meanwhile are in force from their `first_epoch` on.
    """

    def __init__(self, root: Root, key: str, dataset: str, order: str | None = None) -> None:
        self.key, self.dataset, self.order, self._root = key, dataset, order or key, root
        self._made: list[DraftRound] = []
        while (data := root.get(self._name(len(self._made)))) is not None:
            self._made.append(_unpack(data, self._name(len(self._made))))

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The heads of the rounds, in their order."""
        return tuple(
            Round(i, one.data.first_epoch, len(np.asarray(one.data.samples)), one.data.objective)
            for i, one in enumerate(self._made)
        )

    @property
    def made(self) -> tuple[DraftRound, ...]:
        """The rounds themselves."""
        return tuple(self._made)

    def read_round(self, number: int) -> tuple[Ints, Floats]:
        """Samples and weights of one round, in rank order."""
        data = self._made[number].data
        return np.asarray(data.samples, np.int64), np.asarray(data.weights, np.float32)

    def add(self, data: RoundData, **notes: Any) -> None:
        """Keep the next round, or take the one that another process made of the same question meanwhile.

        Args:
            data: samples, weights, first epoch, objective.
            notes: plain JSON values worth keeping: seconds, how many samples were filled up, ...

        Raises:
            SelectionError: it begins no later than the round before.
        """
        if self._made and data.first_epoch <= self._made[-1].data.first_epoch:
            raise SelectionError(
                f"A round from epoch {data.first_epoch} on cannot follow one from epoch "
                f"{self._made[-1].data.first_epoch} on: rounds rise."
            )
        name = self._name(len(self._made))
        self._root.put_new(name, _pack(data, notes))
        there = self._root.get(name)
        if there is None:
            raise SelectionNotFound(f"{name} was removed while it was being written: restart the training run.")
        self._made.append(_unpack(there, name))

    def record(self, data: RoundData, **notes: Any) -> None:
        """Keep the next round, in place of what an earlier try at its epoch left.

        Args:
            data: samples, weights, first epoch, objective.
            notes: plain JSON values worth keeping.
        """
        self._root.put(self._name(len(self._made)), _pack(data, notes))
        self._made.append(DraftRound(data, notes))

    def back_to(self, epoch: int) -> None:
        """Disregard the rounds from an epoch on: they are going to be made again."""
        self._made = [one for one in self._made if one.data.first_epoch < epoch]

    def forget(self) -> None:
        """Remove what is published by now."""
        for number in reversed(range(len(self._made))):
            self._root.delete(self._name(number))

    def _name(self, number: int) -> str:
        return f"drafts/{self.key}/{number:06d}.arrow"


def _pack(data: RoundData, notes: dict[str, Any]) -> bytes:
    samples = np.asarray(data.samples, np.int64)
    weights = np.ones(len(samples), np.float32) if data.weights is None else np.asarray(data.weights, np.float32)
    head = {"first_epoch": data.first_epoch, "objective": data.objective, "notes": notes}
    table = pa.table({"sample": samples, "weight": weights}).replace_schema_metadata({"tamis": json.dumps(head)})
    file = pa.BufferOutputStream()
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue().to_pybytes()


def _unpack(data: bytes, name: str) -> DraftRound:
    try:
        table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
        head = json.loads((table.schema.metadata or {})[b"tamis"])
        samples, weights = np.asarray(table["sample"]), np.asarray(table["weight"])
    except (pa.ArrowInvalid, KeyError, ValueError) as error:
        raise SelectionError(
            f"{name} is damaged ({error}): remove it and the rounds after it, and restart the training run."
        ) from error
    return DraftRound(RoundData(samples, weights, head["first_epoch"], head["objective"]), head["notes"])
