"""`tamis`: nouns, then verbs. A command parses, calls one library function, and prints.

Everything heavy is imported inside the commands, so that `tamis --help` and `tamis sql` start at once.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import json
import os
import sys
from typing import Any

import click

from tamis.curation.errors import CurationError
from tamis.flows.cli_common import INTERRUPTED, App, common
from tamis.flows.cli_dataset import dataset
from tamis.flows.cli_gradmatch import select
from tamis.flows.cli_looking import selection
from tamis.flows.cli_report import report
from tamis.flows.cli_run import run
from tamis.flows.cli_score import score
from tamis.flows.cli_serve import serve
from tamis.flows.cli_sql import sql
from tamis.flows.cli_train import train
from tamis.flows.output import emit, facts
from tamis.flows.settings import prepare
from tamis.store.errors import TamisError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--store", envvar="TAMIS_STORE", metavar="FOLDER|URL", help="The store. Also TAMIS_STORE.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON.")
@click.version_option(package_name="tamis")
@click.pass_context
def cli(context: click.Context, store: str | None, as_json: bool) -> None:
    """Choose the training data worth training on: once, kept, queried with SQL, and streamed.

    \b
    tamis --store work init
    tamis --store work dataset add cifar10 train-*.tar
    tamis --store work score uncertainty --dataset cifar10 --proxy preact20 --epochs 2
    tamis --store work select uncertainty --dataset cifar10 --measure entropy --budget 40%
    tamis --store work train --dataset cifar10 --selection cifar10-entropy --model preact56
    """
    context.obj = App(store, as_json)


@cli.command()
@common
def init(app: App) -> None:
    """Make an empty store.

    \b
    Examples:
      tamis init --store work
      TAMIS_STORE=work tamis init
    """
    from tamis.store import Store

    made = Store.create(app.where)
    emit({"store": made.root.url}, app.as_json, lambda: click.echo(f"An empty store at {made.root.url}"))


@cli.command()
@common
def doctor(app: App) -> None:
    """Say what tamis finds here: versions, devices, the store, Prefect. Changes nothing.

    \b
    Examples:
      tamis doctor
      tamis doctor --store work --json
    """
    from tamis.flows.doctor import examine

    found = examine(app.where_or_none)
    emit(found, app.as_json, lambda: facts(found))
    if found["problems"]:
        raise SystemExit(1)


@cli.command()
@click.option("--folder", default="tamis-demo", show_default=True, help="A folder of the demo's own.")
@click.option("--epochs", default=None, type=click.IntRange(1), help="Epochs of each training.")
@common
def demo(app: App, folder: str, epochs: int | None) -> None:
    """The whole job on real digits: index, score by proxy, select, keep, query, train. No download.

    \b
    Examples:
      tamis demo
      tamis demo --folder somewhere --json
    """
    from tamis.flows.demo import run_demo

    run_demo(folder, epochs=epochs, as_json=app.as_json)


for _command in (dataset, score, select, selection, train, run, report, sql, serve):
    cli.add_command(_command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors that tamis raises on purpose become one clear message."""
    given = sys.argv[1:] if arguments is None else arguments
    prepare(verbose="--verbose" in given or "serve" in given)
    try:
        cli.main(args=given, prog_name="tamis", standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort):
        click.echo(INTERRUPTED, err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (TamisError, CurationError, OSError) as error:  # OSError: a folder that cannot be made, a disk that is gone
        _fail(error, "--json" in given)
    except ValueError as error:
        if type(error).__name__ != "ValidationError":
            raise
        _fail(error, "--json" in given)


def _fail(error: Exception, as_json: bool) -> None:
    message = _plain(error)
    if as_json:
        click.echo(json.dumps({"error": type(error).__name__, "message": message}), err=True)
    else:
        click.echo(f"Error: {message}", err=True)
    sys.exit(1)


def _plain(error: Exception) -> str:
    """A pydantic error as one line a field; any other as it is."""
    found: Any = getattr(error, "errors", None)
    if not callable(found):
        return str(error)
    title = getattr(error, "title", "")
    fields: Any = found()
    lines = [f"{'.'.join(map(str, e['loc'])) or title}: {e['msg']} (given: {e.get('input')!r})" for e in fields]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
