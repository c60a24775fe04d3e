"""What every method of choosing promises, over every entry of METHODS: `tamis.curation.testing`, and how it is written.

A new method is held to this without a line being added here.
"""

import inspect
import re
import sys

import pytest

from tamis.curation import METHODS, Method, parameters
from tamis.curation.testing import CHECKS, Check

SECTIONS = ["What it does:", "When to use it:", "Cost:", "Departures from the paper:", "Reference:"]
EVERY_METHOD = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


@EVERY_METHOD
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_it_keeps_its_promises(method: Method, check: Check) -> None:
    check(method)


@EVERY_METHOD
def test_its_parameters_are_described_on_one_line_each(method: Method) -> None:
    described = inspect.getdoc(method.select)
    assert described is not None
    arguments = described.split("Args:\n")[1].split("\n\n")[0].splitlines()
    for name in ("k", "generator", *parameters(method)):
        (at,) = (i for i, line in enumerate(arguments) if re.match(rf"    {name}: \S", line))
        assert at + 1 == len(arguments) or re.match(r"    \S", arguments[at + 1]), f"{name} takes two lines"
    assert all(one.help for one in parameters(method).values())


@EVERY_METHOD
def test_its_module_is_a_method_card(method: Method) -> None:
    card = sys.modules[method.select.__module__].__doc__
    assert card is not None
    assert [line for line in card.splitlines() if line in SECTIONS] == SECTIONS


@EVERY_METHOD
def test_its_entry_is_whole(method: Method) -> None:
    assert METHODS[method.name] is method
    assert re.fullmatch(r"[a-z][a-z0-9-]*", method.name)
    assert method.version >= 1
    assert method.summary
    assert "\n" not in method.summary
