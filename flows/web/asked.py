"""What an address asks for: its parameters, checked, and pages of lists."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tamis.flows.web.errors import BadQuestion

LONGEST = 200  # characters of a search
_LAST = 10**9  # page


class Query:
    """The parameters of an address.

    Args:
        given: names and values, in order; a name may come several times.
        foreign: a link of another site brought them.
    """

    def __init__(self, given: Iterable[tuple[str, str]] = (), *, foreign: bool = False) -> None:
        self._given, self.foreign = list(given), foreign

    def text(self, name: str, longest: int = LONGEST) -> str:
        """A text, "" where none is given.

        Raises:
            BadQuestion: it is too long.
        """
        value = next((v for n, v in self._given if n == name), "")
        if len(value) > longest:
            raise BadQuestion(f"{name} has {len(value)} characters: expected at most {longest}.")
        return value.strip()

    def each(self, name: str, most: int = 12) -> list[str]:
        """Every value of a name, the empty ones left out.

        Raises:
            BadQuestion: there are too many.
        """
        values = list(dict.fromkeys(v for n, v in self._given if n == name and v))
        if len(values) > most:
            raise BadQuestion(f"{name} is given {len(values)} times: expected at most {most}.")
        return values

    def whole(self, name: str, default: int, low: int = 0, high: int = _LAST) -> int:
        """A whole number.

        Raises:
            BadQuestion: it is none, or out of range.
        """
        text = self.text(name)
        if not text:
            return default
        try:
            value = int(text) if text.isascii() else low - 1
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise BadQuestion(f"{name} is {text[:40]!r}: expected a whole number from {low} to {high}.")
        return value

    def share(self, name: str, default: float) -> float:
        """A number from 0 to 1.

        Raises:
            BadQuestion: it is none.
        """
        text = self.text(name)
        try:
            value = float(text) if text else default
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise BadQuestion(f"{name} is {text[:40]!r}: expected a number from 0 to 1.")
        return value

    def choice(self, name: str, names: Sequence[str]) -> str:
        """One of some names; the first where none is given.

        Raises:
            BadQuestion: it is none of them.
        """
        value = self.text(name) or names[0]
        if value not in names:
            raise BadQuestion(f"{name} is {value[:40]!r}: expected {', '.join(names)}.")
        return value

    def with_(self, **changed: Any) -> str:
        """The parameters with some others, as the end of an address; those that are None or "" are left out."""
        kept = [(n, v) for n, v in self._given if n not in changed and v]
        more = [(n, str(v)) for n, v in changed.items() if v not in (None, "")]
        return "?" + urlencode(kept + more)


@dataclass(frozen=True)
class Page:
    """A page of a list.

    Attributes:
        number: from 1.
        size: rows a page.
        total: rows of the whole list.
        name: of the parameter.
    """

    number: int
    size: int
    total: int
    name: str = "page"

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        """The first row's place, from 0."""
        return (self.number - 1) * self.size

    @property
    def last(self) -> int:
        """The place behind the last row."""
        return max(self.first, min(self.total, self.first + self.size))

    def row(self) -> dict[str, Any]:
        """As plain values."""
        return {"page": self.number, "pages": self.pages, "size": self.size, "total": self.total, "name": self.name}


def paged(query: str, order: str) -> str:
    """A list's query as that of a page: `$size` rows from `$first` on, `matches` and `place` beside each.

    One row comes of an empty page too, with `place` null: how many there are in all.
    """
    return f"""
        with listed as ({query}),
             shown as (select row_number() over (order by {order}) as place, * from listed
                       order by place limit $size offset $first)
        select (select count(*) from listed) as matches, shown.* from (values (1)) left join shown on true
        order by place"""


def page_of(rows: Sequence[Mapping[str, Any]], query: Query, size: int) -> tuple[Page, list[dict[str, Any]]]:
    """The page that the rows of `paged` are, and the rows."""
    page = Page(query.whole("page", 1, 1), size, rows[0]["matches"])
    hidden = ("matches", "place")
    return page, [{n: v for n, v in row.items() if n not in hidden} for row in rows if row["place"] is not None]


def span(query: Query, size: int, name: str = "page") -> dict[str, int]:
    """The parameters of `paged`."""
    return {"size": size, "first": (query.whole(name, 1, 1) - 1) * size}
