"""`tamis`: nouns, then verbs. A command parses, calls one library function, and prints.

Everything heavy is imported inside the commands, and a command's module when it is asked for: `tamis --help` and
`tamis sql` start at once.
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

import sys
from importlib import import_module
from typing import Any

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import emit, say
from tamis.flows.failures import Reporter, quiet_pipe, wants_trace
from tamis.flows.interrupts import CODE, end_now, ending_in_time
from tamis.flows.server.settings import prepare

_COMMANDS = {  # name: its module, which is imported when the command is asked for
    "dataset": "packing", "score": "detections.resolution", "select": "selections.stages",
    "selection": "selections.looking", "cull": "detections.cull", "priority": "priority", "train": "train",
    "adapt": "adapt", "evaluate": "evaluate", "run": "run", "history": "history", "report": "reports.report",
    "package": "packages.building",
    "sql": "sql", "ui": "web.ui", "doctor": "service.doctor", "serve": "service.serve", "schedule": "service.schedule",
    "verify": "store", "gc": "store",
}  # fmt: skip


class _Tamis(click.Group):
    """Imports the module of a command when that is asked for, and leaves it to `main` to tell of a Ctrl-C."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return super().get_command(ctx, cmd_name)
        return getattr(import_module(f"tamis.flows.cli.{_COMMANDS[cmd_name]}"), cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:  # click would begin a line for it
            raise click.Abort from interrupt


@click.group(cls=_Tamis, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--store", envvar="TAMIS_STORE", metavar="FOLDER|URL", help="The store. Also TAMIS_STORE.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--verbose", is_flag=True, expose_value=False, help="Show Prefect's log and the traceback of errors.")
@click.version_option(package_name="tamis")
@click.pass_context
def cli(context: click.Context, store: str | None, as_json: bool) -> None:
    """Select the training data worth training on: once, stored, queried with SQL, and streamed.

    \b
    tamis --store work init
    tamis --store work dataset add cifar10 train-*.tar
    tamis --store work score uncertainty --dataset cifar10 --proxy preact20 --epochs 2
    tamis --store work select uncertainty --dataset cifar10 --measure entropy --budget 50%
    tamis --store work train --dataset cifar10 --selection cifar10-entropy --model preact56
    """
    context.obj = App(store, as_json)


@cli.command()
@common
def init(app: App) -> None:
    """Create an empty store.

    \b
    Examples:
      tamis init --store work
      TAMIS_STORE=work tamis init
    """
    from tamis.store import Store

    made = Store.create(app.where)
    emit({"store": made.root.url}, app.as_json, lambda: say(f"Created an empty store at {made.root.url}"))


@cli.command()
@click.option("--folder", default="tamis-demo", show_default=True, help="Folder for the demo.")
@click.option("--epochs", default=None, type=click.IntRange(1), help="Epochs of each training run.")
@common
def demo(app: App, folder: str, epochs: int | None) -> None:
    """Run the whole workflow on real digits: index, score, select, query, train. No download.

    \b
    Examples:
      tamis demo
      tamis demo --folder somewhere --json
    """
    from tamis.flows.demo import run_demo

    run_demo(folder, epochs=epochs, as_json=app.as_json)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line. Every error is one clear message, and every Ctrl-C is heard at once.

    Args:
        arguments: what follows `tamis`; default: those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    prepare(verbose="--verbose" in given or "serve" in given)
    reporter = Reporter("--json" in given, wants_trace(given))
    with ending_in_time(reporter.interrupted):
        code = _run(given, reporter)
        if code == CODE and arguments is None:
            end_now()
    sys.exit(code)


def _run(given: list[str], reporter: Reporter) -> int:
    """The exit code of a command, its errors reported."""
    try:
        cli.main(args=given, prog_name="tamis", standalone_mode=False)
        sys.stdout.flush()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.UsageError as error:
        if not reporter.as_json and error.ctx is not None:
            click.echo(error.ctx.get_usage(), err=True)
        reporter.failed(error)
        return 2
    except (KeyboardInterrupt, click.Abort):
        reporter.interrupted()
        return CODE
    except BrokenPipeError:
        quiet_pipe()
    except BaseException as error:  # noqa: BLE001 - the last resort: told, in one line; a Rust panic is no Exception
        reporter.failed(error)
        return 1
    return 0
