"""A package as commands print it: facts, a table of candidates, and a curve of accuracy against shared layers."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tamis.flows.cli.output import facts, say, size, table

if TYPE_CHECKING:
    from tamis.store.packages import Base, Candidate, Package

_COLUMNS = ("branch", "branchpoint", "frozen", "parameters", "accuracy", "tpr", "fpr", "correlation", "pareto", "bytes")
_WIDTH = 40  # letters of the longest bar


def package_answer(package: "Package", base: "Base") -> dict[str, Any]:
    """A package for programs: all that is known of it."""
    return {
        "package": package.ref,
        "key": package.key,
        "base": {
            "key": base.key, "model": base.model, "outputs": base.outputs, "image_size": base.image_size,
            "source": base.source, "bytes": base.bytes,
        },
        "dataset": package.dataset,
        "selection": package.selection,
        "classes": list(package.classes),
        "event": package.event_class,
        "events": None if package.events is None else asdict(package.events),
        "image_size": package.image_size,
        "seed": package.seed,
        "config": package.config,
        "lineage": package.lineage,
        "created": package.created,
        "candidates": [candidate_row(one) for one in package.candidates],
    }  # fmt: skip


def candidate_row(one: "Candidate") -> dict[str, Any]:
    """A candidate for programs."""
    row = {name: getattr(one, name) for name in _COLUMNS}
    return row | {"key": one.key, "metrics": one.metrics, "seconds": one.seconds, "blob": one.blob}


def show_package(answer: dict[str, Any], drawn: str | None) -> None:
    """Print a package for people."""
    base, events = answer["base"], answer["events"]
    facts(
        {name: answer[name] for name in ("package", "key", "dataset", "selection", "classes", "event")}
        | {"events": "not known" if events is None else _events(events)}
        | {"base": f"{base['model']} ({base['key'][:12]}, {size(base['bytes'])})", "image size": answer["image_size"]}
        | {name: answer[name] for name in ("seed", "config", "lineage", "created")}
    )
    rows = [row | {"bytes": size(row["bytes"])} for row in answer["candidates"]]
    table(rows, _COLUMNS, "Candidates")
    for line in curve(answer["candidates"]):
        say(line)
    if drawn is not None:
        say(f"Written to {drawn}")


def curve(rows: list[dict[str, Any]]) -> list[str]:
    """Accuracy as bars, a line a candidate. They begin at the lowest accuracy, rounded down to a tenth."""
    floor = min(0.9, *(int(row["accuracy"] * 10) / 10 for row in rows))
    wide = max(len(str(row["frozen"])) for row in rows)
    return [
        f"Accuracy by frozen layers (bars from {floor:g} to 1; * on the Pareto frontier)",
    ] + [
        f"{row['frozen']:>{wide}} {'*' if row['pareto'] else ' '} {row['accuracy']:.4f} "
        + "#" * round((row["accuracy"] - floor) / (1 - floor) * _WIDTH)
        for row in rows
    ]


def _events(events: dict[str, Any]) -> str:
    measured = set(events["measured"])
    said = (
        ("average", f"{events['average']:g} s on average"),
        ("minimum", f"{events['minimum']:g} s at least"),
        ("frequency", f"{events['frequency']:.1%} of the time"),
        ("correlation", f"misses correlate by {events['correlation']:g}"),
    )
    return ", ".join(f"{text} ({'measured' if name in measured else 'given'})" for name, text in said)
