"""The stream of chosen samples: read by byte range out of the shards they already lie in, in an order that can be
repeated and resumed.

What: `SelectionStream` gives a selection's (or a whole dataset's) samples epoch by epoch: as decoded batches
(`epoch`), as batches of the members' bytes (`raw`), or, iterated itself, as WebDataset dicts behind which every stock
stage works.
Order: position p of the epoch's one global order belongs to rank (p - start) mod world. So all ranks together see the
same order whatever their number, every rank has the same number of batches, and what is left after `samples_consumed`
positions is the same for any number of ranks that go on from there. Worker processes of a rank take whole batches in
turn.
The tail: `drop_last` drops what does not fill a batch on every rank; otherwise the last batch is shorter, and ranks
that would lack a sample in it get one from the epoch's beginning with weight 0, so a weighted loss is not biased.
Cost: bytes of the chosen samples only; 10 to 45 ns a sample for the order; see `tamis.training.streaming.batches`.
Memory does
not grow with the dataset: what is looked up is mapped from files that all processes share.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from multiprocessing.context import get_spawning_popen
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from tamis.store import Store
from tamis.store import mapped as flat
from tamis.store.datasets import Dataset
from tamis.store.errors import SelectionError
from tamis.store.selections import Selection
from tamis.store.selections.drafts import Draft
from tamis.store.selections.rounds import in_force
from tamis.training import border
from tamis.training.streaming.batches import (
    AHEAD,
    Batch,
    Beside,
    Chosen,
    Images,
    Loaded,
    Loader,
    RawBatch,
    Targets,
    in_background,
    joined,
    members_beside,
    parted,
    with_next,
)
from tamis.training.streaming.chosen import ReadRound, check_choices, members_of, numbered, place, rounds_of, to_dicts
from tamis.training.streaming.credentials import check_secrets, secret
from tamis.training.streaming.lookup import Index
from tamis.training.streaming.readers import CACHE_LIMIT, CHECKS, READING, Media, is_remote
from tamis.training.streaming.resume import Position, Share
from tamis.training.streaming.sharing import Block, SharedNumber
from tamis.training.streaming.shuffle import EpochOrder
from tamis.training.streaming.states import canonical, position_of
from tamis.training.streaming.workers import Environment, attend, in_workers

_SOON = 4  # batches between a batch's announcement to the medium and its reading
_SPARSE = 0.5  # the fraction of a dataset's bytes below which reading ahead of the reads would waste them
_WORKERS = 1_024
_REMOTE_AHEAD = 6  # batches fetched at a time from an object store

Form = Literal["samples", "batches", "raw"]
FORMS: tuple[Form, ...] = ("samples", "batches", "raw")


class SelectionStream(IterableDataset[Any]):
    """A selection's samples, epoch by epoch.

    Args:
        store: the store that knows the selection.
        chosen: a selection, or a dataset for all of its samples; a draft's rounds may still be made.
        seed: of the order.
        batch_size: samples a batch on each rank.
        rank, world: which of how many processes this is; by default what torch.distributed says, else 0 of 1.
        yields: what iterating the stream itself gives: "samples" (WebDataset dicts), "batches" (`Batch`) or "raw"
            (`RawBatch`). With DataLoader workers, whole batches are what travels fast: `DataLoader(stream,
            batch_size=None, num_workers=2)`.
        members: what a WebDataset dict or a raw batch holds, by suffix; by default the image and the label.
        shuffle: False keeps the selection's own order (a dataset's: by sample number).
        near: None lets every sample stand anywhere in the epoch. A number keeps reads together for a medium on which
            far ones are dear: blocks of so many samples that lie side by side are shuffled, and then windows of 16.
        drop_last: drop the samples at the end that do not fill a batch on every rank.
        channels: of decoded images, 3 (RGB) or 1 (grey).
        image_size: scale and cut decoded images to this many pixels; None takes them as they are.
        reading: for shards on an object store: "ranges" fetches members only, "shards" keeps whole shards on this
            machine, "auto" decides by what `tamis selection plan` shows.
        check: how far shards are trusted: "stamp" (unchanged size and time), "headers" (each member's tar header is
            read and compared), "digest" (each shard is hashed before it is first read).
        cache_limit: bytes that whole shards may take on this machine.
        targets: what decoded batches have in place of class numbers, as a task reads it.

    Attributes:
        samples_read: samples delivered by this object so far.
        bytes_read: bytes read from the shards for them.

    Raises:
        DecoderRefused: `members` names a pickle, which is never read.
    """

    def __init__(
        self,
        store: Store,
        chosen: Selection | Draft | Dataset,
        *,
        seed: int = 0,
        batch_size: int = 128,
        rank: int | None = None,
        world: int | None = None,
        yields: Form = "samples",
        members: Sequence[str] | None = None,
        shuffle: bool = True,
        near: int | None = None,
        drop_last: bool = False,
        channels: int = 3,
        image_size: int | None = None,
        reading: Literal["auto", "ranges", "shards"] = "auto",
        check: Literal["stamp", "headers", "digest"] = "stamp",
        cache_limit: int = CACHE_LIMIT,
        targets: Targets | Beside | None = None,
    ) -> None:
        super().__init__()
        check_choices(yields=(yields, FORMS), reading=(reading, READING), check=(check, CHECKS))
        border.check_kind("store", store, Store)
        border.check_kind("chosen", chosen, *border.CHOSEN)
        seed, batch_size = border.whole("seed", seed), border.whole("batch_size", batch_size, 1, border.BATCH)
        near = None if near is None else border.whole("near", near, 1, border.NEAR)
        self.dataset = chosen if isinstance(chosen, Dataset) else store.datasets.get(chosen.dataset)
        self.key = chosen.order if isinstance(chosen, Draft) else chosen.key
        self.seed, self.batch_size, self.yields = seed, batch_size, yields
        self.shuffle, self.near, self.images = shuffle, near, Images(channels, image_size)
        self.rank, self.world = place(rank, world)
        self._share = Share(self.rank, self.world, batch_size, drop_last)
        self.samples_read = self.bytes_read = 0
        self._placed_by_torch = rank is None and world is None
        self._store, self._chosen = store, chosen
        self._members = members_of(self.dataset, members)
        given = numbered(self.dataset)
        # Here and not when it is first needed: that may be in a forked worker, where the tables cannot be read.
        self._index = Index.open(store, self.dataset, [m for m in self._members if m not in given])
        self._targets, image = targets, self.dataset.image
        self._pixels = Index.open(store, self.dataset, [image, *members_beside(targets)])
        if yields == "samples":
            self._index.keys(np.zeros(0, np.int64))
        for each in rounds_of(chosen):
            self._table(each)
        self._media = self._decide(reading, check, cache_limit)
        self._due = SharedNumber()
        self._at, self._resume = Position(), None
        self._live: tuple[Iterator[Any], int] | None = None
        self._missing = frozenset[str]()  # storage options that a pickle did not hold
        self._own = frozenset(vars(self))

    def size(self, epoch: int = 0) -> int:
        """How many samples the epoch has, over all ranks."""
        return self._round(epoch).size

    def batches(self, epoch: int = 0, start: int = 0) -> int:
        """How many batches the epoch has from a position on: the same on every rank."""
        return -(-self._share.own(self.size(epoch), start) // self.batch_size)

    def epoch(self, epoch: int, start: int | None = None, *, workers: int = 0) -> Generator[Batch]:
        """This rank's batches of one epoch, decoded.

        Args:
            epoch: from 0.
            start: the global position to begin at: `samples_consumed` of a state, whatever world size left it. By
                default where `load_state_dict` left this epoch, else 0.
            workers: 0 decodes ahead in a background thread; a number, in so many processes. The batches, their order
                and `state_dict` are the same.

        Yields:
            Batches of `batch_size`, the last one perhaps shorter. After each, `state_dict` counts it as consumed.

        Raises:
            ShardChanged, DecodeError: naming the shard or the sample.
            WorkerDied: a worker process was killed.
        """
        yield from self._epoch(epoch, start, workers, "batches")

    def raw(self, epoch: int, start: int | None = None, *, workers: int = 0) -> Generator[RawBatch]:
        """As `epoch`, with the members' bytes in place of decoded images."""
        yield from self._epoch(epoch, start, workers, "raw")

    def __iter__(self) -> Iterator[Any]:
        """This rank's share of the epoch that is due, in the form that `yields` says.

        WebDataset dicts have `__key__`, `__url__` (the shard), the members as bytes, `__sample__` (the number) and
        `__weight__`. The last two are named like that because stock decoders take every other value for bytes. The
        label's text is the class number that the index has; where it lies inside of a member, that is `cls`, beside it.

        DataLoader workers share out whole batches in turn, so a loader with the same batch size (or `batch_size=None`
        with `yields="batches"`) keeps the order. After a whole epoch the next one is due; where worker processes
        iterate, call `set_epoch` before each epoch.
        """
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info is not None else (0, 1)
        if info is not None:
            attend()
        due, self._resume = self._resume or Position(self._due.get()), None
        if due.workers == 1 and not due.taken:  # nobody's state in particular
            due = Position(due.epoch, self._start(due.epoch, due.begin), 0, worker, workers)
        self._at, self._live = due, None
        self._fetch_whole(due.epoch)
        return self._iterate(due)

    def set_epoch(self, epoch: int) -> None:
        """Make this the epoch that iterating begins, in worker processes too."""
        epoch = border.whole("epoch", epoch)
        self._due.set(epoch)
        self._at, self._resume, self._live = Position(epoch), None, None

    def state_dict(self) -> dict[str, Any]:
        """Where the stream is: {selection, seed, epoch, samples_consumed}, the same on every rank.

        In a DataLoader's worker it also says which worker of how many it is and what that has delivered, for
        torchdata's StatefulDataLoader. A stream that is read in another order than the usual says that in `order`.
        """
        at = self._resume or self._now()
        item = None if get_worker_info() is None else 1 if self.yields == "samples" else self.batch_size
        return {**self._identity(), **at.state(self._share, self.size(at.epoch), item)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state: `epoch(state["epoch"])`, or iterating, gives what that epoch had left.

        Args:
            state: of a stream of any number of ranks and workers, or of a StatefulDataLoader over one, which may then
                have had another number of workers.

        Raises:
            StateMismatch: the state is another selection's, seed's or order's, or is none, or it is that of a loader
                whose steps were not the stream's own batches.
        """
        found, info = canonical(state, self._identity(), self._known_size), get_worker_info()
        self._resume = position_of(found, info)
        if info is None:  # the main process alone says what is due next: a worker would undo its set_epoch
            self._due.set(self._resume.epoch)

    def __getstate__(self) -> dict[str, Any]:
        # For a worker process only, never for a file: its environment first, then the secrets that no pickle holds.
        if get_spawning_popen() is None:
            return {**self.__dict__, "_missing": frozenset(n for o in self._options() for n in secret(o))}
        return {"_environment": Environment(), **self.__dict__, "_secrets": [(o, dict(o)) for o in self._options()]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        state.pop("_environment", None)
        for options, secrets in state.pop("_secrets", ()):
            options.update(secrets)
        self.__dict__.update(state)

    def _options(self) -> list[dict[str, str]]:
        """The storage options of the store and of the shards; usually they are one and the same."""
        found = [self._store.root.options, self.dataset.options]
        return found if found[0] is not found[1] else found[:1]

    def _identity(self) -> dict[str, Any]:
        mine: dict[str, Any] = {"selection": self.key, "seed": self.seed}
        if not self.shuffle or self.near is not None:
            mine["order"] = "given" if not self.shuffle else f"near {self.near}"
        return mine

    def _epoch(self, epoch: int, start: int | None, workers: int, form: Form) -> Generator[Any]:
        workers = border.whole("workers", workers, 0, _WORKERS)
        epoch = border.whole("epoch", epoch)
        resume, self._resume = self._resume, None
        if start is None:
            start = resume.begin if resume is not None and resume.epoch == epoch else 0
        self._at, self._live = Position(epoch, self._start(epoch, start)), None
        self._fetch_whole(epoch)
        loaded = self._loaded(self._at, form) if not workers else self._in_workers(self._at, form, workers)
        with closing(loaded):
            for batch, read in loaded:
                self._deliver(len(batch.samples), read)
                yield batch

    def _in_workers(self, at: Position, form: Form, workers: int) -> Generator[Loaded]:
        """Batches, read in worker processes."""
        # Of this class, whatever it is a copy of: a class of the main program's own could not be had in a worker.
        made = SelectionStream.__new__(SelectionStream)
        made.__dict__.update({name: value for name, value in vars(self).items() if name in self._own})
        made._due, made._live, made._resume = SharedNumber(), None, None
        places = [replace(at, worker=worker, workers=workers) for worker in range(workers)]
        jobs = [partial(made._loaded, place, form, share=True) for place in places]
        yield from in_workers(jobs, _packed, _unpacked)

    def _iterate(self, at: Position) -> Generator[Any]:
        if self.yields != "samples":
            form: Form = "raw" if self.yields == "raw" else "batches"
            with closing(self._loaded(at, form, share=at.workers > 1)) as loaded:
                for each in loaded:
                    self._deliver(len(each.batch.samples), each.bytes_read)
                    yield each.batch
        else:
            with closing(self._loaded(at, "raw")) as loaded:
                for batch, read in loaded:
                    dicts = iter(to_dicts(batch, self._index, self._members))
                    self._deliver(len(batch.samples), read)
                    self._live = (dicts, len(batch.samples))
                    yield from dicts
        if get_worker_info() is None:
            self._due.set(at.epoch + 1)
            self._at = Position(at.epoch + 1)

    def _loaded(self, at: Position, form: Form, share: bool = False) -> Generator[Loaded]:
        """Batches, read in this process."""
        raw, remote = form == "raw", self._media.reading == "ranges" and is_remote(self.dataset.shards)
        share = share or (get_worker_info() is not None and self.yields != "samples")
        ahead, threads = (_REMOTE_AHEAD, _REMOTE_AHEAD) if remote else (AHEAD, 1)
        index = self._index if raw else self._pixels
        loader = Loader(
            index, self._media, self.images, share=share, held=ahead + 2, targets=None if raw else self._targets
        )
        work = loader.raw if raw else loader.batch
        items = with_next(self._groups(at), _SOON)
        try:
            if raw and not remote:  # reading is too quick for another thread to be worth its while
                for one, soon in items:
                    yield work(one, soon)
            else:
                yield from in_background(lambda pair: work(*pair), items, ahead=ahead, threads=threads)
        finally:
            loader.close()

    def _groups(self, at: Position) -> Iterator[Chosen]:
        """The batches of one worker of this rank as sample numbers."""
        chosen = self._round(at.epoch)
        table = self._table(chosen)
        order = EpochOrder(self.key, chosen.size, self.seed, at.epoch, self.shuffle, self.near)
        for batches in self._share.blocks(chosen.size, at):
            positions = np.concatenate(batches)
            samples, weights = self._take(table, order.at(positions))
            weights[positions >= chosen.size] = 0  # padding: it stands in another rank's batch already
            ends = np.cumsum([len(batch) for batch in batches]).tolist()
            for a, b in zip([0, *ends], ends, strict=False):
                yield Chosen(samples[a:b], weights[a:b])

    def _take(self, table: Any, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        if table is None:
            return index, np.ones(len(index), np.float32)
        rows = index if self.near is None else flat.column(table, "by_place")[index]
        return flat.column(table, "sample")[rows], flat.column(table, "weight")[rows]

    def _deliver(self, samples: int, read: int) -> None:
        self._at, self._live = self._now().after(samples), None
        self.samples_read += samples
        self.bytes_read += read

    def _now(self) -> Position:
        """The position, without what of a batch of dicts was not yet asked for."""
        if self._live is None:
            return self._at
        return self._at.after(-self._live[0].__length_hint__())  # type: ignore[attr-defined]  # a list's iterator has it

    def _start(self, epoch: int, start: int) -> int:
        start = border.whole("start", start, -border.LARGEST)
        if not 0 <= start <= self.size(epoch):
            raise ValueError(f"start is {start}: epoch {epoch} has positions 0 to {self.size(epoch)}.")
        self._check_place()
        check_secrets(self._missing - set(self._store.root.options))
        return start

    def _round(self, epoch: int) -> ReadRound:
        return in_force(rounds_of(self._chosen), epoch)

    def _known_size(self, epoch: int) -> int | None:
        try:
            return self.size(epoch)
        except SelectionError:  # of a draft, whose round is still to be made
            return None

    def _table(self, chosen: ReadRound) -> Any:
        """The samples and weights of a round, mapped; None for all of a dataset."""
        if chosen.number is None:
            return None
        assert not isinstance(self._chosen, Dataset)
        return flat.chosen(self._store.root, self._chosen, chosen.number)

    def _decide(self, reading: str, check: Any, limit: int) -> Media:
        """How shards are read, in words that name no "auto"."""
        folder, options = flat.cache_folder(self._store.root) / "shards", self._store.root.options
        whole = max(self.dataset.bytes, 1)
        share = max((r.size for r in rounds_of(self._chosen)), default=0) / max(self.dataset.samples, 1)
        if reading == "auto":
            reading = "ranges"
            if is_remote(self.dataset.shards):
                from tamis.training.streaming.advice import choose

                known = self.dataset if isinstance(self._chosen, Draft) else self._chosen
                reading = choose(self._store, known, cache_limit=limit)
        fixed: Literal["ranges", "shards"] = "shards" if reading == "shards" else "ranges"
        return Media(fixed, check, share * whole < _SPARSE * whole, options, folder, limit)

    def _fetch_whole(self, epoch: int) -> None:
        """Have the shards of an epoch on this machine, where they are read whole and there is room for all of them."""
        if self._media.reading != "shards" or not is_remote(self.dataset.shards) or get_worker_info() is not None:
            return
        from tamis.training.streaming.remote import (
            ShardCache,  # an object store's client is loaded only where there is one
        )

        table = self._table(self._round(epoch))
        shards = self.dataset.shards if table is None else self._index.shards(flat.column(table, "sample"))
        if sum(shard.bytes for shard in shards) <= self._media.limit:
            assert self._media.folder is not None
            ShardCache(self._media.folder, self._media.options, limit=self._media.limit).fetch(shards)

    def _check_place(self) -> None:
        if not self._placed_by_torch or get_worker_info() is not None or (self.rank, self.world) == place(None, None):
            return
        raise RuntimeError(
            f"The stream was made as rank {self.rank} of {self.world} and torch.distributed now says "
            f"{place(None, None)}: make the stream after init_process_group, or pass rank and world."
        )


def _packed(loaded: Loaded) -> tuple[Any, Block | None]:
    parts, block = parted(loaded.batch)
    return (parts, loaded.bytes_read), block


def _unpacked(content: tuple[Any, int], block: Block | None) -> Loaded:
    return Loaded(joined(block, *content[0]), content[1])
