"""Which boxes count: the options that culling's commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def counting_options(command: F) -> F:
    """`--preset`, `--class` (as `classes`) and `--map` (as `pairs`)."""
    options = (
        click.option(
            "--preset", default="authors", show_default=True, type=click.Choice(["authors", "paper"]),
            help="Boxes that count. authors: score .5, 20 pixels; paper: score .2.",
        ),
        click.option(
            "--class", "classes", multiple=True, metavar="NAME", help="A class of interest; repeat. Default: all."
        ),
        click.option(
            "--map", "pairs", multiple=True, metavar="TEACHER=STUDENT",
            help="A teacher's class as a student's; repeat for each. TEACHER= leaves it out.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def counting(preset: str, classes: tuple[str, ...], pairs: tuple[str, ...]) -> dict[str, Any]:
    """What these options say, as fields of a `CullingConfig`.

    Raises:
        click.UsageError: a --map cannot be read.
    """
    found: dict[str, str | None] = {}
    for pair in pairs:
        name, equals, to = pair.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--map {pair} cannot be read; expected TEACHER=STUDENT, such as bus=car.")
        found[name] = to or None
    return {"preset": preset, "classes": classes, "mapping": found or None}
