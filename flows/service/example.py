"""The file of a service that works as it stands, on the store of `tamis demo`."""

EXAMPLE = """\
store = "tamis-demo/store"              # relative to this file; --store and TAMIS_STORE go before it

[deployments.nightly-choice]
flow = "select"
cron = "0 3 * * *"                      # or interval = "6h"
timezone = "Europe/Paris"               # default: UTC
[deployments.nightly-choice.config]
dataset = "digits"
method = "random"
budget = "10%"
"""


def missing(path: str) -> str:
    """What to say where there is no such file."""
    check = f"tamis serve {path} --dry-run"
    return f"No file {path}. It says what runs when, such as:\n\n{EXAMPLE}\nWrite one, and check it with `{check}`."
