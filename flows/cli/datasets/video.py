"""The part of `tamis dataset add` that packs frames of videos."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tamis.flows.cli.common import App
from tamis.flows.cli.datasets.showing import show_dataset

F = TypeVar("F", bound=Callable[..., Any])


def video_options(command: F) -> F:
    """The options of `tamis dataset add` for videos."""
    options = (
        click.option("--fps", default="1", show_default=True,
                     help="Videos: frames per second (0.5, 30000/1001) or all."),
        click.option("--camera", help="Videos: the camera of all of them. Default: named after the file."),
        click.option("--start", default="0", show_default=True, metavar="SECONDS|after",
                     help="Videos: when each begins on its camera's time line, or after the camera's last one."),
        click.option("--format", "kind", default="jpg", show_default=True, type=click.Choice(["jpg", "png"]),
                     help="Videos: JPEG of quality 95, or lossless PNG."),
        click.option("--per-shard", default=5000, show_default=True, type=click.IntRange(1),
                     help="Videos: frames per shard."),
        click.option("--out", type=click.Path(file_okay=False),
                     help="Videos: output folder. Default: shards/NAME in the store."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def are_videos(paths: Sequence[str]) -> bool:
    """Whether these are videos, by their suffixes; a mix with shards is refused."""
    from tamis.store.video.sources import is_video

    videos = [path for path in paths if is_video(path)]
    if videos and len(videos) < len(paths):
        other = next(path for path in paths if not is_video(path))
        raise click.UsageError(
            f"{videos[0]} is a video and {other} is not: add shards and videos to separate datasets."
        )
    return bool(videos)


def refuse_options(what: str, *names: str) -> None:
    """Refuse options that were given and do not apply."""
    context = click.get_current_context()
    given = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given:
        option = next(p.opts[0] for p in context.command.params if p.name == given[0])
        raise click.UsageError(f"{option} does not apply to {what}.")


def add_frames(
    app: App, name: str, paths: Sequence[str], append: bool, *, fps: str, camera: str | None, start: str, kind: str,
    per_shard: int, out: str | None,
) -> None:  # fmt: skip
    """Pack frames of videos as a dataset, and show it."""
    from tamis.flows.progress import display, steps
    from tamis.store.keys import check_name
    from tamis.store.video import add_videos, sources_of

    store = app.open()
    check_name(name, "dataset")
    target = Path(out) if out is not None else _inside(store.root.path) / "shards" / name
    with display():
        made = add_videos(
            store.datasets, name, sources_of(paths, camera), target, fps=fps, kind=kind, start=start,
            per_shard=per_shard, append=append, progress=steps("seconds of video"),
        )  # fmt: skip
    frames = made.dataset.frames()
    cameras = list(frames.cameras) if frames is not None else []
    show_dataset(app, made.dataset, made.skipped, cameras=cameras, cached=made.cached)


def _inside(path: Path | None) -> Path:
    if path is None:
        raise click.UsageError("The store is not a folder: specify where the shards go (--out).")
    return path
