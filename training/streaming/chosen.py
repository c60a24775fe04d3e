"""What a stream is of: rounds, members, WebDataset dicts, and its place among other processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import distributed

from tamis.store.datasets import Dataset
from tamis.store.selections import Selection
from tamis.store.selections.drafts import Draft
from tamis.training import border
from tamis.training.decoding.suffixes import is_executable
from tamis.training.errors import DecoderRefused
from tamis.training.streaming.batches import RawBatch
from tamis.training.streaming.lookup import Index


@dataclass(frozen=True)
class ReadRound:
    """What is chosen from `first_epoch` on. `number` None stands for all of a dataset, without listing them."""

    first_epoch: int
    size: int
    number: int | None


def rounds_of(chosen: Selection | Draft | Dataset) -> list[ReadRound]:
    """What is chosen, round by round; a dataset is one."""
    if isinstance(chosen, Dataset):
        return [ReadRound(0, chosen.samples, None)]
    return [ReadRound(r.first_epoch, r.size, r.round) for r in chosen.rounds]


def members_of(dataset: Dataset, members: Sequence[str] | None) -> tuple[str, ...]:
    """The members that a stream gives: by default the image and what holds the label.

    Raises:
        DecoderRefused: one of them is a pickle.
    """
    if members is None:
        return (dataset.image,) if dataset.given_label is None else (dataset.image, dataset.given_label)
    refused = [m for m in members if is_executable(m)]
    if refused:
        raise DecoderRefused(
            f"Members {', '.join(refused)} are not streamed: pickles run code when they are decoded, and "
            "WebDataset's own decoder would do it. Name other members, such as "
            f"{dataset.image!r}."
        )
    return tuple(members)


def numbered(dataset: Dataset) -> tuple[str | None, ...]:
    """The members in whose place class numbers are given: nothing of them is read."""
    return (dataset.label, dataset.given_label) if dataset.relabelled else (dataset.label,)


def to_dicts(batch: RawBatch, index: Index, members: Sequence[str]) -> list[dict[str, Any]]:
    """WebDataset dicts of a batch."""
    samples, dataset = batch.samples, index.dataset
    columns: dict[str, Sequence[Any]] = {"__key__": index.keys(samples), "__url__": index.uris(samples)}
    labels = [b"%d" % n for n in batch.labels.tolist()]
    for name in members:
        columns[name] = labels if name in numbered(dataset) else list(map(bytes, batch.members[name]))
    if dataset.has_classes and dataset.label not in columns and dataset.label_member in columns:  # it lies inside
        columns.setdefault("cls", labels)
    columns |= {"__sample__": samples.tolist(), "__weight__": batch.weights.tolist()}
    names = tuple(columns)
    return [dict(zip(names, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def place(rank: int | None, world: int | None) -> tuple[int, int]:
    """Which of how many processes this is: as given, or as torch.distributed says, else 0 of 1."""
    if (rank is None) != (world is None):
        raise ValueError(f"rank is {rank} and world is {world}: give both or neither.")
    if rank is None or world is None:
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1
    rank, world = border.whole("rank", rank), border.whole("world", world, 1, border.BATCH)
    if rank >= world:
        raise ValueError(f"rank is {rank} of {world}: expected 0 to {world - 1}.")
    return rank, world


def check_choices(**choices: tuple[str, Sequence[str]]) -> None:
    """Refuse a value that is none of a few."""
    for name, (given, known) in choices.items():
        if given not in known:
            raise ValueError(f"{name} is {given!r}: expected one of {', '.join(known)}.")
