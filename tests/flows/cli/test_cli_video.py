"""`tamis dataset add` with videos: detected by suffix, shown with cameras, and never mixed with shards."""

from pathlib import Path
from typing import Any

import pytest
from videokit import video


def test_videos_become_a_dataset_with_cameras(tamis: Any, tmp_path: Path) -> None:
    tamis("init")
    for name in ("north", "south"):
        video(tmp_path / f"{name}.mp4")
    said = tamis("dataset", "add", "site", tmp_path / "north.mp4", f"lobby={tmp_path / 'south.mp4'}", "--json")
    assert said.code == 0, said.err
    assert (said.json["samples"], said.json["cameras"]) == (10, ["lobby", "north"])
    again = tamis("dataset", "add", "site", tmp_path / "north.mp4", f"lobby={tmp_path / 'south.mp4'}", "--json")
    assert again.json["cached"] is True
    assert again.json["key"] == said.json["key"]
    parts = tamis("dataset", "split", "site", "--into", "a=.6,b=.4", "--by", "time", "--json")
    assert [part["samples"] for part in parts.json] == [6, 4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.mp4", "b.tar"], "add shards and videos to separate datasets"),
        (["a.mp4", "--label", "none"], "--label does not apply to videos"),
        (["b.tar", "--fps", "2"], "--fps does not apply to shards"),
    ],
)
def test_shards_and_videos_are_not_mixed(tamis: Any, arguments: list[str], said: str) -> None:
    tamis("init")
    refused = tamis("dataset", "add", "site", *arguments)
    assert (refused.code, said in refused.err) == (2, True)


def test_bad_rates_are_refused(tamis: Any, tmp_path: Path) -> None:
    tamis("init")
    for option, value in (("--fps", "0"), ("--fps", "often"), ("--start", "-1")):
        refused = tamis("dataset", "add", "site", video(tmp_path / "a.mp4", 3), option, value)
        assert refused.code == 1
        assert repr(value) in refused.err
