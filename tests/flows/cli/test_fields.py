"""Options made from a configuration: the command line asks what Python asks, and a new field needs no line."""

from typing import Annotated, Any, Literal

import click
import pytest
from pydantic import BaseModel, Field

from tamis.flows.cli.fields import FieldsCommand, attributes
from tamis.flows.cli.train import train
from tamis.training.config import TrainConfig
from tamis.training.strategies import STRATEGIES

OWN = {"device", "workers", "score_batch", "force", "store", "as_json"}


def asked(*arguments: str) -> TrainConfig:
    """What `tamis train` asks."""
    given = train.make_context("train", ["--dataset", "d", *arguments]).params
    return TrainConfig(**{k: v for k, v in given.items() if k not in OWN and v is not None})


def test_command_line_and_python_ask_the_same_question_by_the_same_defaults() -> None:
    assert asked() == TrainConfig(dataset="d")
    assert (asked().epochs, asked().augment) == (10, "crop-flip")


def test_no_parameter_of_a_strategy_has_the_name_of_a_field() -> None:
    """Both are options of one command."""
    own = {name for one in STRATEGIES.values() if one.Parameters is not None for name in one.Parameters.model_fields}
    assert not own & set(TrainConfig.model_fields)


WITHOUT = {"reselect", "span"}  # of `tamis select gradmatch`, and of searches


def test_every_field_of_a_training_run_is_an_option_with_a_text() -> None:
    options = {option.name: option for option in train.get_params(click.Context(train))}
    assert set(TrainConfig.model_fields) - WITHOUT <= set(options)
    assert set(attributes(TrainConfig)) == set(TrainConfig.model_fields)
    assert all(options[name].help for name in TrainConfig.model_fields if name not in WITHOUT)  # type: ignore[attr-defined]  # options


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        (("--channels", "1", "--image-size", "224"), {"channels": 1, "image_size": 224}),
        (("--precision", "bf16", "--no-nesterov"), {"precision": "bf16", "nesterov": False}),
        (("--evaluate-on", "t", "--evaluate-every", "2", "--record-losses"),
         {"evaluate_on": "t", "evaluate_every": 2, "record_losses": True}),
        (("--schedule", "milestones", "--milestones", "60,120, 160"),
         {"schedule": "milestones", "milestones": (60, 120, 160)}),
        (("--schedule", "milestones", "--milestones", "5", "--milestones", "10"),
         {"schedule": "milestones", "milestones": (5, 10)}),
        (("--cutout", "16"), {"cutout": 16}),
        (("--lr", "1e-3", "--task", "regression"), {"lr": 1e-3, "task": "regression"}),
    ],
)  # fmt: skip
def test_options_are_fields(arguments: tuple[str, ...], fields: dict[str, Any]) -> None:
    assert asked(*arguments) == TrainConfig(dataset="d", **fields)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--lr", "0"), ("--momentum", "1"), ("--channels", "2"), ("--evaluate-every", "0"), ("--milestones", "60,x"),
        ("--milestones", "60,,90"), ("--milestones", "0,60"), ("--cutout", "0"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_wrong_usage(wrong: tuple[str, str]) -> None:
    with pytest.raises(click.BadParameter) as error:
        asked(*wrong)
    assert error.value.param is not None
    assert error.value.param.opts == [wrong[0]]


class Model(BaseModel):
    """Something new.

    Attributes:
        share: of something,
            over two lines.
        kind: which.
        most: at most so many.
    """

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    kind: Literal["a", "b"] | None = None
    most: Annotated[int, Field(ge=1)] | None = None


def test_a_new_field_needs_no_line() -> None:
    command = FieldsCommand("new", fields=lambda: Model, without=("most",))
    share, kind = command.get_params(click.Context(command))[:2]
    assert (share.opts, share.default, share.help) == (["--share"], 0.5, "Of something, over two lines.")  # type: ignore[attr-defined]  # option
    assert command.make_context("new", ["--kind", "b"]).params == {"share": 0.5, "kind": "b"}
    with pytest.raises(click.BadParameter, match="0<x<=1"):
        command.make_context("new", ["--share", "0"])
    assert kind.default is None
