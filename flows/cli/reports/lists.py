"""Options that take several numbers."""

import click


def numbers(_context: click.Context, _option: click.Parameter, given: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them; None where nothing is given.

    Raises:
        click.BadParameter: they are none.
    """
    if given is None:
        return None
    try:
        return tuple(float(part) for part in given.split(","))
    except ValueError:
        raise click.BadParameter(f"{given!r}: expected numbers with commas between them, such as 0.1,0.5.") from None


def whole_numbers(_context: click.Context, _option: click.Parameter, given: str) -> tuple[int, ...]:
    """Whole numbers above 0 with commas between them.

    Raises:
        click.BadParameter: they are none.
    """
    parts = [part.strip() for part in given.split(",")]
    if not all(part.isdecimal() and 0 < int(part) < 10**9 for part in parts):
        raise click.BadParameter(f"{given!r}: expected whole numbers with commas between them, such as 1,2,3.")
    return tuple(map(int, parts))
