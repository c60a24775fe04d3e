"""Base models: the weights that packages share, kept once each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamis.store.advice import did_you_mean
from tamis.store.blobs import Blobs
from tamis.store.errors import BaseNotFound
from tamis.store.keys import KEY
from tamis.store.packages.checking import check_base
from tamis.store.packages.records import Base
from tamis.store.packages.weights import shapes_of
from tamis.store.roots.roots import Root
from tamis.store.roots.waiting import one_patience
from tamis.store.tables.tables import Tables, now, until_claimed

_FIELDS = ("model", "outputs", "channels", "image_size", "mean", "std", "blob", "bytes", "source")


class Bases:
    """The base models of one store."""

    def __init__(self, root: Root, tables: Tables, blobs: Blobs) -> None:
        self._root, self._tables, self._blobs = root, tables, blobs

    @one_patience
    def put(
        self,
        weights: bytes | Path,
        *,
        model: str,
        outputs: int,
        channels: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        source: str = "",
    ) -> Base:
        """Keep a base model, or find the one that it is.

        Args:
            weights: the whole model's state (safetensors).
            model: its name in the registry of models.
            outputs: numbers that it answers with, for one image.
            channels: of an image.
            image_size: side of an image, pixels.
            mean, std: [channels] what images are normalised by, of 0 ... 1.
            source: where the weights are from, for people.

        Raises:
            PackageError: a field is out of range, or the weights are no safetensors.
        """
        data = weights.read_bytes() if isinstance(weights, Path) else weights
        shapes_of(data, f"Base model {model!r}")
        numbers = tuple(map(float, mean)), tuple(map(float, std))
        blob = self._blobs.put(data)
        return self.keep(Base(model, outputs, channels, image_size, *numbers, blob, len(data), source))

    def keep(self, base: Base) -> Base:
        """The row of a base whose weights are there already."""
        check_base(base)

        def publish() -> Base | None:
            there = self.find(base.key)
            if there is not None:
                return there
            row = {name: getattr(base, name) for name in _FIELDS}
            row |= {"base": base.key, "mean": list(base.mean), "std": list(base.std), "created": now()}
            return base if self._tables.publish("bases", [row], {f"key/{base.key}": 1}) else None

        return until_claimed(publish, f"Keeping base model {base.model}")

    @one_patience
    def find(self, key: str) -> Base | None:
        """The base of exactly this key, or None."""
        said = self._tables.found("bases", f"key/{key}", 1) if KEY.fullmatch(key) else None
        return None if said is None else base_of(said.rows[0])

    @one_patience
    def get(self, key: str) -> Base:
        """The base of a key.

        Raises:
            BaseNotFound: naming what there is.
        """
        found = self.find(key)
        if found is None:
            keys = {base.key: base.model for base in self.all()}
            listed = ", ".join(f"{k[:12]} ({model})" for k, model in keys.items())
            raise BaseNotFound(
                f"No base model {key[:200]!r} in {self._root.url}; there are: {listed or 'none'}."
                f"{did_you_mean(key, keys)}"
            )
        return found

    @one_patience
    def all(self) -> list[Base]:
        """Every base, in the order in which they were kept."""
        return [base_of(row) for row in self._tables.rows_in_order("bases")]

    def weights(self, base: Base | str) -> bytes:
        """The whole model's state (safetensors), held against its digest.

        Raises:
            BaseNotFound: there is none of this key.
            BlobCorrupt: the bytes on the medium changed.
        """
        return self._blobs.get((base if isinstance(base, Base) else self.get(base)).blob)


def base_of(row: Mapping[str, Any]) -> Base:
    """A base from its row, or from the like of it."""
    lists = {name: tuple(map(float, row[name])) for name in ("mean", "std")}
    values: dict[str, Any] = {name: row[name] for name in _FIELDS} | lists
    return Base(**values)
