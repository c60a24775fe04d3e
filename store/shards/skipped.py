"""What was left out of a shard or of a packed folder: counted and named, never dropped without a word."""

from collections.abc import Iterable
from dataclasses import dataclass

SOME = 3  # names that are given as examples


@dataclass(frozen=True)
class Skipped:
    """Things that were left out for one reason."""

    why: str  # what they are, in the plural: "files without an extension"
    count: int
    some: tuple[str, ...]  # the first few names

    def __str__(self) -> str:
        # Names come from data: repr keeps control characters from a terminal.
        named = ", ".join(repr(name) for name in self.some)
        return f"{self.count} {self.why}" + (
            f" ({named}{', ...' if self.count > len(self.some) else ''})" * bool(named)
        )

    def as_json(self) -> dict[str, object]:
        return {"why": self.why, "count": self.count, "some": list(self.some)}


def summed(skipped: Iterable[Skipped]) -> tuple[Skipped, ...]:
    """One entry a reason, in the order in which reasons first came up."""
    found: dict[str, Skipped] = {}
    for one in skipped:
        before = found.get(one.why, Skipped(one.why, 0, ()))
        found[one.why] = Skipped(one.why, before.count + one.count, (before.some + one.some)[:SOME])
    return tuple(found.values())
