"""Adding videos: one dataset of many cameras, found again, resumed where it was killed, split by time."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from videokit import H, W, grey, video

from tamis.store import Store
from tamis.store.errors import DatasetExists, DatasetNotFound, ShardError
from tamis.store.upkeep.verify import verify
from tamis.store.video import Source, adding, packing, sources_of
from tamis.store.video.adding import AddedVideos, add_videos


def add(store: Store, sources: list[Source], name: str = "site", **more: Any) -> AddedVideos:
    assert store.root.path is not None
    return add_videos(store.datasets, name, sources, store.root.path / "shards", **more)


@pytest.fixture
def two(tmp_path: Path) -> list[Source]:
    return [Source(str(video(tmp_path / f"{name}.mp4")), name) for name in ("north", "south")]


def test_many_cameras_are_one_dataset(store: Store, two: list[Source]) -> None:
    made = add(store, two, fps="2", per_shard=7).dataset
    assert (made.samples, len(made.shards), made.image, made.label) == (20, 3, "jpg", None)
    keys = [f"{camera}-{500 * i:010d}" for camera in ("north", "south") for i in range(10)]
    assert made.keys() == keys
    frames = store.datasets.frames("site")
    assert frames is not None
    assert frames.cameras == ("north", "south")
    assert frames.videos == ("north.mp4", "south.mp4")
    assert frames.camera_N.tolist() == [0] * 10 + [1] * 10
    assert frames.seconds_N.tolist() == [i / 2 for i in range(10)] * 2
    rows = store.query("select camera, seconds, key from frames join samples using (dataset, sample) order by sample")
    assert rows["key"].to_pylist() == keys
    shard = made.shards[0]
    where = made.locations()
    data = Path(shard.uri).read_bytes()[where.offset[3] : where.offset[3] + where.size[3]]
    picture = np.asarray(Image.open(io.BytesIO(data)))
    assert picture.shape == (H, W, 3)
    assert picture.mean() == pytest.approx(grey(15), abs=4)
    assert verify(store).problems == []


def test_the_same_question_decodes_nothing(store: Store, two: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    first = add(store, two)
    monkeypatch.setattr(packing, "pictures", _never)
    again = add(store, two)
    assert (again.dataset, again.cached, first.cached) == (first.dataset, True, False)
    with pytest.raises(DatasetExists, match="other content"):
        add(store, two, fps="2")
    build = adding.build("jpg") | {"libavcodec": "1.2.3"}
    monkeypatch.setattr(adding, "build", lambda _: build)
    with pytest.raises(DatasetExists, match=r"another build decodes or encodes them \(libavcodec"):
        add(store, two)


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("decoded")


def test_a_killed_packing_goes_on_behind_its_last_frame(
    store: Store, two: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = add_videos(store.datasets, "whole", two, tmp_path / "whole", fps="all", per_shard=8).dataset
    asked, real = list[tuple[str, Fraction | None]](), packing.pictures

    def dying(path: str, fps: Any, told: Any, *, after: Fraction | None = None) -> Iterator[Any]:
        asked.append((Path(path).stem, after))
        for seconds, pixels in real(path, fps, told, after=after):
            if len(asked) == 2 and seconds > 2:
                raise KeyboardInterrupt
            yield seconds, pixels

    monkeypatch.setattr(packing, "pictures", dying)
    with pytest.raises(KeyboardInterrupt):
        add(store, two, "whole2", fps="all", per_shard=8)
    assert not [row for row in store.datasets.all() if row["dataset"] == "whole2"]
    made = add(store, two, "whole2", fps="all", per_shard=8).dataset
    resumed = asked[2]
    assert resumed[0] == "south"
    assert resumed[1] is not None
    assert 0 < resumed[1] < 2
    assert [s.digest for s in made.shards] == [s.digest for s in whole.shards], "the same bytes as in one go"
    assert made.key == whole.key
    assert store.query("select * exclude dataset from frames where dataset = 'whole2' order by sample").equals(
        store.query("select * exclude dataset from frames where dataset = 'whole' order by sample")
    )
    assert not list((Path(made.shards[0].uri)).parent.glob("*.json"))


def test_later_videos_are_appended_behind_earlier_ones(store: Store, two: list[Source], tmp_path: Path) -> None:
    add(store, two)
    later = Source(str(video(tmp_path / "later.mp4", 25)), "north")
    with pytest.raises(ShardError, match=r"north\.mp4 and later\.mp4 are both of camera north and overlap"):
        add(store, [later], append=True)
    with pytest.raises(DatasetNotFound):
        add(store, [later], "none", append=True)
    made = add(store, [later], append=True, start="after").dataset
    assert (made.ref, made.samples) == ("site@2", 13)
    frames = made.frames()
    assert frames is not None
    assert frames.seconds_N[10:].tolist() == [5, 6, 7]
    assert frames.camera_N[10:].tolist() == [0, 0, 0]
    assert add(store, [later, *two], append=True).dataset == made, "all of it is there"
    assert add(store, two).dataset.ref == "site@1"
    with pytest.raises(ShardError, match="cannot be appended"):
        add(store, [Source(str(video(tmp_path / "more.mp4", 9)), "east")], append=True, kind="png")


def test_split_by_time_cuts_the_line_of_each_camera(store: Store, two: list[Source], tmp_path: Path) -> None:
    longer = Source(str(video(tmp_path / "long.mp4", 100)), "long")
    add(store, [*two, longer], fps="2")
    early, late = store.datasets.split("site", {"early": 0.7, "late": 0.3}, by_time=True)
    first, second = early.frames(), late.frames()
    assert first is not None
    assert second is not None
    for camera, count in (("north", 10), ("south", 10), ("long", 20)):
        a = first.seconds_N[first.camera_N == first.cameras.index(camera)]
        b = second.seconds_N[second.camera_N == second.cameras.index(camera)]
        assert (len(a), len(b)) == (round(0.7 * count), round(0.3 * count))
        assert a.max() < b.min()
    assert sorted(early.keys() + late.keys()) == sorted(store.datasets.get("site").keys())
    assert [early.keys()[0].rpartition("-")[0], first.cameras[first.camera_N[0]]] == ["north", "north"]
    with pytest.raises(ShardError, match="draws nothing"):
        store.datasets.split("site", {"a": 0.5}, by_time=True, seed=1)


def test_datasets_of_other_things_have_no_times(store: Store, dataset: Any) -> None:
    assert store.datasets.frames("digits") is None
    with pytest.raises(ShardError, match="no times to split by"):
        store.datasets.split("digits", {"a": 0.5}, by_time=True)


def test_damage_is_kept_up_to_and_told(store: Store, tmp_path: Path) -> None:
    whole = video(tmp_path / "whole.mkv", 100, codec="mpeg4")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    made = add(store, sources_of([str(cut)]))
    assert 2 <= made.dataset.samples < 10
    (told,) = made.skipped
    assert "damaged or incomplete" in told.why
    assert "of 10.0" in told.some[0]


def test_sources_name_their_cameras(tmp_path: Path) -> None:
    odd = tmp_path / "Ein Gang (2).x.mp4"
    odd.write_bytes(b"x")
    assert [s.camera for s in sources_of([str(odd), "hall=b.mp4"])] == ["Ein_Gang__2__x", "hall"]
    assert sources_of(["b.mp4"], "door")[0].camera == "door"
    for text, said in [
        ("http://host/a.mp4", "is a URL"),
        ("cam=rtsp://host/a.mp4", "is a URL"),
        ("...mp4", "invalid name for a camera"),
    ]:
        with pytest.raises(ShardError, match=said):
            sources_of([text])
    with pytest.raises(ShardError, match="listed twice"):
        sources_of([str(odd), f"other={odd}"])
    with pytest.raises(ShardError, match="so does --camera"):
        sources_of(["hall=b.mp4"], "door")


@pytest.mark.real
def test_a_real_video(store: Store, real: Any) -> None:
    made = add(store, sources_of([str(next(real("vtest").rglob("vtest.avi")))]), fps="2")
    frames = made.dataset.frames()
    assert frames is not None
    assert frames.seconds_N.tolist() == [i / 2 for i in range(159)], "795 frames at 10 a second"
    assert not made.skipped
