"""Options out of a configuration's fields: a new field needs no line here.

What: each field of a pydantic model becomes an option by its annotation (`Literal` a choice, `bool` a flag, a number
with its range, a tuple of numbers a list with commas), with the field's default, and the field's line under
"Attributes" as help.
When: by a command's class, `FieldsCommand`, the first time that its options are asked for: listing commands loads no
configuration.
"""

import re
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import click

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_LINE = re.compile(r"^ {8}(\w+(?:, \w+)*): (.*)$")
_MORE = re.compile(r"^ {12}(.*)$")
_SHOWN = 1_000  # borders that nobody comes near are the model's to refuse, and no part of a help text
_BOUNDS = (("ge", "min", False), ("gt", "min", True), ("le", "max", False), ("lt", "max", True))


class FieldsCommand(click.Command):
    """A command whose first options are the fields of a model.

    Args:
        fields: gives the model; called once, when the options are asked for.
        without: fields that have no option.
        further: gives models one of which may be asked for, by name: an option for each of their fields, which says
            whose it is, and is None where it is not given.
        left_out: fields of the further models that have no option.
        parameters: of `click.Command`.
    """

    def __init__(
        self,
        *args: Any,
        fields: "Callable[[], type[BaseModel]]",
        without: tuple[str, ...] = (),
        further: "Callable[[], Mapping[str, type[BaseModel]]] | None" = None,
        left_out: frozenset[str] = frozenset(),
        **parameters: Any,
    ) -> None:
        super().__init__(*args, **parameters)
        self._fields, self._without, self._further, self._left_out = fields, without, further, left_out | {"name"}

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Those of the fields, the command's own, and then those of the further models."""
        further = [] if self._further is None else _further(self._further(), self._left_out)
        return [*_options(self._fields(), self._without), *super().get_params(ctx)[:-1], *further, self._help(ctx)]

    def _help(self, ctx: click.Context) -> click.Parameter:
        """`--help`, which comes last."""
        return super().get_params(ctx)[-1]


@cache
def _options(model: "type[BaseModel]", without: tuple[str, ...]) -> tuple[click.Option, ...]:
    helps = attributes(model)
    return tuple(
        _option(name, field, helps.get(name, "")) for name, field in model.model_fields.items() if name not in without
    )


def _further(models: "Mapping[str, type[BaseModel]]", left_out: frozenset[str]) -> list[click.Option]:
    """An option for each field of some models that is not left out; fields of one name are one option."""
    owners: dict[str, list[str]] = {}
    for owner, model in models.items():
        for name in model.model_fields:
            owners.setdefault(name, []).append(owner)
    made: list[click.Option] = []
    for name, whose in owners.items():
        model = models[whose[0]]
        if name not in left_out:
            field, text = model.model_fields[name], attributes(model).get(name, "")
            option = _option(name, field, text)
            default = "" if field.default is None else f"; default: {field.default}"
            option.default, option.show_default = None, False
            option.help = (
                f"{option.help} [{'all strategies' if len(whose) == len(models) else ', '.join(whose)}{default}]"
            )
            made.append(option)
    return made


def attributes(model: "type[BaseModel]") -> Mapping[str, str]:
    """The lines under "Attributes" of a model's docstring and of those it is made from, by attribute."""
    from pydantic import BaseModel

    above = [attributes(base) for base in model.__bases__ if issubclass(base, BaseModel) and base is not BaseModel]
    found, names = {name: text for one in above for name, text in one.items()}, list[str]()
    for line in (model.__doc__ or "").partition("Attributes:")[2].splitlines():
        one, more = _LINE.match(line), _MORE.match(line)
        if one:
            names = one[1].split(", ")
            found |= dict.fromkeys(names, one[2])
        elif more:
            found |= {name: f"{found[name]} {more[1]}" for name in names}
    return found


def _option(name: str, field: "FieldInfo", text: str) -> click.Option:
    flag, required = f"--{name.replace('_', '-')}", field.is_required()
    help_ = f"{text[:1].upper()}{text[1:]}"
    kind, limits = _kind(field.annotation, list(field.metadata))
    default = None if required else field.default
    if kind is bool:
        both = f"{flag}/--no-{flag[2:]}" if default else flag
        return click.Option([both, name], is_flag=True, default=default, show_default=bool(default), help=help_)
    choices = {str(choice): choice for choice in get_args(kind)} if get_origin(kind) is Literal else {}

    def chosen(_ctx: click.Context, _option: click.Parameter, value: Any) -> Any:
        return choices.get(value, value)

    if get_origin(kind) is tuple:
        return _listed(flag, name, kind, help_)
    return click.Option(
        [flag, name], type=click.Choice(list(choices)) if choices else _ranged(kind, limits), required=required,
        default=str(default) if choices and default is not None else default, callback=chosen if choices else None,
        help=help_, show_default=default is not None,
    )  # fmt: skip


def _listed(flag: str, name: str, kind: Any, text: str) -> click.Option:
    """An option for several numbers: with commas, or given again, or both."""
    one = click.types.convert_type(_ranged(*_kind(get_args(kind)[0], [])))

    def split(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> tuple[Any, ...] | None:
        parts = [part for text in given for part in text.split(",")]
        return tuple(one.convert(part.strip(), option, ctx) for part in parts) or None

    return click.Option(
        [flag, name], type=str, multiple=True, callback=split, metavar=f"{one.name.split()[0].upper()},...", help=text
    )


def _kind(annotation: Any, limits: list[Any]) -> tuple[Any, list[Any]]:
    """A field's type without None and without its limits, and these."""
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    if hasattr(annotation, "__metadata__"):  # Annotated
        annotation, *more = get_args(annotation)
        for one in more:
            limits += getattr(one, "metadata", [one])  # of a Field
    return annotation, limits


def _ranged(kind: Any, limits: list[Any]) -> Any:
    if kind not in (int, float):
        return str
    given: dict[str, Any] = {}
    for limit in limits:
        for bound, end, is_open in _BOUNDS:
            value = getattr(limit, bound, None)
            if value is not None and value < _SHOWN:
                given |= {end: value, f"{end}_open": is_open}
    return (click.IntRange if kind is int else click.FloatRange)(**given) if given else kind
