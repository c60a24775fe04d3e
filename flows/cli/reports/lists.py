"""Options that take several numbers."""

import click


def numbers(_context: click.Context, _option: click.Parameter, given: str) -> tuple[float, ...]:
    """Numbers with commas between them.

    Raises:
        click.BadParameter: they are none.
    """
    try:
        return tuple(float(part) for part in given.split(","))
    except ValueError:
        raise click.BadParameter(f"{given!r}: expected numbers with commas between them, such as 0.1,0.5.") from None
