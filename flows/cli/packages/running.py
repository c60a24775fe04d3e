"""`tamis package run`: execute a plan on a video, a folder of images, or a live source."""

import contextlib
import json
import sys
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from tamis.flows.cli.common import App, common
from tamis.flows.cli.output import facts, note, plain, say, table
from tamis.flows.failures import quiet_pipe

if TYPE_CHECKING:
    from tamis.store import Store
    from tamis.training.mainstream.runner.deploying import Schedule
    from tamis.training.mainstream.runner.judging import Labels
    from tamis.training.mainstream.runner.running import Options
    from tamis.training.mainstream.runner.sources import Source

_COLUMNS = (
    "application",
    "package",
    "branch",
    "fps",
    "achieved",
    "ms",
    "ms_p95",
    "looks",
    "hits",
    "events",
    "failures",
)
_JUDGED = ("application", "labelled", "found", "false", "recall", "precision", "f1", "planned_recall",
           "planned_precision", "planned_f1")  # fmt: skip


@click.command()
@click.argument("plan", type=click.Path(dir_okay=False))
@click.argument("source")
@click.option(
    "--out", type=click.Path(dir_okay=False, writable=True), help="Write JSON lines to a file, not to stdout."
)
@click.option(
    "--lines", default="events", show_default=True, type=click.Choice(["looks", "hits", "events"]),
    help="What has a line: every look at a frame, those that are hits, or events alone.",
)  # fmt: skip
@click.option(
    "--pace", default="video", show_default=True, type=click.Choice(["video", "real"]),
    help="video: every frame of a file, as fast as it goes. real: a file is played in real time, and frames that come "
    "too fast are dropped, as those of a live source are.",
)  # fmt: skip
@click.option(
    "--image-fps", metavar="RATE|names", help="Of a folder: images a second, or that their names are seconds."
)
@click.option("--queue", default=8, show_default=True, type=click.IntRange(1, 1024), help="Frames that may wait.")
@click.option(
    "--stall-timeout", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True),
    help="Seconds after which a source that gives nothing has stalled.",
)  # fmt: skip
@click.option(
    "--close-after", default="3", show_default=True, metavar="MISSES|SECONDSs",
    help="What closes an event: misses in a row (3), or seconds without a hit (2s).",
)  # fmt: skip
@click.option(
    "--max-failures", default=3, show_default=True, type=click.IntRange(1),
    help="Failures in a row after which an application is switched off; the others go on.",
)  # fmt: skip
@click.option(
    "--labels", metavar="DATASET|FILE.csv",
    help="Judge the events by labels of the same video: a dataset, or intervals (application,begins,ends).",
)  # fmt: skip
@click.option(
    "--jpeg/--no-jpeg", default=True, show_default=True,
    help="Encode frames of videos as those that a package was trained on, for the same pixels.",
)  # fmt: skip
@click.option(
    "--check-every", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="Let all candidates of a package answer a frame every so many seconds, for `tamis package replan --monitor`.",
)  # fmt: skip
@click.option("--record/--no-record", default=True, show_default=True, help="Keep looks and events in the store.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@common
def run(
    app: App, plan: str, source: str, out: str | None, lines: Any, pace: str, image_fps: str | None, queue: int,
    stall_timeout: float, close_after: str, max_failures: int, labels: str | None, jpeg: bool,
    check_every: float | None, record: bool, device: str,
) -> None:  # fmt: skip
    """Execute a PLAN on SOURCE: a video, a folder of images, a URL (rtsp://...) or a capture device.

    What applications share runs once per frame, each application at its rate. Events are printed as JSON lines as they
    are found, and kept in the store with every look (tables events and looks). A new plan in place of the file is taken
    over between two frames; SIGHUP loads it anew. Ctrl-C and SIGTERM finish the frame in hand.

    \b
    Examples:
      tamis package run plan.json street.mp4
      tamis package run plan.json street.mp4 --labels street --out events.jsonl
      tamis package run plan.json frames/ --image-fps 10 --lines looks
      tamis package run plan.json rtsp://camera/stream --stall-timeout 30 --close-after 2s
    """
    from tamis.training.devices import pick_device
    from tamis.training.mainstream.runner.deploying import Deployer
    from tamis.training.mainstream.runner.judging import labels_of
    from tamis.training.mainstream.runner.running import Options
    from tamis.training.mainstream.runner.sources import open_source
    from tamis.training.mainstream.scheduling.plan import read_plan

    options = Options(pace == "real", queue, stall_timeout, close_after, max_failures)
    store, opened = app.open(), open_source(source, rate=image_fps, stall=stall_timeout)
    deployer = Deployer(store, pick_device(device), jpeg=jpeg, checks=check_every is not None)
    schedule = deployer.deploy(read_plan(plan))
    named = [(name, one.package) for name, one in schedule.applications.items()]
    judged = None if labels is None else labels_of(store, labels, opened.name, named)
    key = uuid.uuid4().hex if record else None
    try:
        with _lines_file(out) as file:
            summary = _run(
                store, Path(plan), deployer, schedule, opened, options, judged, file, lines, key, check_every
            )
    except BrokenPipeError:  # whoever read the lines has enough, as `head` has
        quiet_pipe()
        return
    _show(app, {"run": key, **summary}, out)
    if summary["signal"]:
        raise SystemExit(128 + summary["signal"])


def _run(
    store: "Store", plan: Path, deployer: Any, schedule: "Schedule", source: "Source", options: "Options",
    labels: "Labels | None", file: TextIO, kinds: Any, key: str | None, check_every: float | None,
) -> dict[str, Any]:  # fmt: skip
    from tamis.flows.progress import display, track
    from tamis.training.mainstream.runner.checking import Checking
    from tamis.training.mainstream.runner.reloading import Reloader
    from tamis.training.mainstream.runner.results import Lines, Recorder
    from tamis.training.mainstream.runner.running import Runner
    from tamis.training.mainstream.runner.stopping import controlled

    recorder = None
    with controlled() as control, display():
        total = source.total() if sys.stderr.isatty() else None
        progress = (lambda _: None) if total is None else track(source.name, round(total, 1))
        if key is not None:
            config = {"plan": schedule.plan.model_dump(mode="json"), "source": source.name}
            dataset = "" if labels is None else labels.dataset
            recorder = Recorder(store, key, source=source.name, dataset=dataset, config=config)
        runner = Runner(
            schedule, source, options, lines=Lines(file, kinds), recorder=recorder, reloader=Reloader(plan, deployer),
            labels=labels, checking=None if check_every is None else Checking(check_every), say=note, progress=progress,
        )  # fmt: skip
        return runner.run(control) | {"signal": control.stop}


@contextlib.contextmanager
def _lines_file(out: str | None) -> Generator[TextIO]:
    if out is None:
        yield sys.stdout
        return
    with open(out, "w", encoding="utf-8") as file:
        yield file


def _show(app: App, summary: dict[str, Any], out: str | None) -> None:
    """The summary: on stdout, or, where that has the JSON lines, on stderr, or as the last of those lines."""
    if app.as_json:
        say(json.dumps({"kind": "summary", **plain(summary)}, indent=2 if out else None, allow_nan=False))
        return
    with contextlib.nullcontext() if out else contextlib.redirect_stdout(sys.stderr):
        rows = summary["applications"]
        table(rows, _COLUMNS, "Applications")
        judged = [row for row in rows if "f1" in row]
        if judged:
            table(judged, _JUDGED, "Against the labels")
        facts({k: v for k, v in summary.items() if k not in ("applications", "damage", "signal") and v is not None})
    for place in summary["damage"]:
        note(f"Damaged: {place}")
    for row in rows:
        if row["error"]:
            note(f"Application {row['application']} failed {row['failures']} times, last with {row['error']}")
