"""The file of a service: everything that is wrong with it is told at once, and nothing that is right is refused."""

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tamis.flows.errors import ServiceFileError
from tamis.flows.service.checking import check
from tamis.flows.service.example import EXAMPLE
from tamis.flows.service.file import interval_of, seconds
from tamis.flows.service.times import next_times
from tamis.store import Store
from tamis.store.datasets import Dataset
from tests.flows.conftest import Tamis

WRONG = """
stor = "elsewhere"
[server]
url = "http://127.0.0.1:9/api"
port = 4300
[metrics]
address = "9464"
[deployments.first]
flow = "selekt"
cron = "whenever"
timezone = "Europe/Pari"
config = {}
[deployments.second]
flow = "select"
timezon = "UTC"
concurrency = 0
on_failure = ["no-such-program-anywhere"]
[deployments.second.config]
dataset = "digit"
budget = "10%"
measures = "entropy"
[deployments."third/one"]
flow = "score"
interval = "1x"
[deployments."third/one".config]
dataset = "digits"
runs = ["abcdef"]
proxies = [{dataset = "digits", model = "resnt18", evaluate_on = "nowhere"}]
[deployments.fourth]
flow = "select"
cron = "0 3 30 2 *"
resources = {workers = 2}
config = {dataset = "digits", budget = "10%", method = "randm"}
"""
FAULTS = (
    "server: url names a server that runs already",
    "metrics.address: expected host:port",
    "stor: there is no such field: leave it out, or correct the name. Did you mean 'store'?",
    "deployments.first.flow: there is no flow 'selekt', only index, ",
    "Did you mean 'select'?",
    "deployments.first.cron: expected five fields: minute hour day month weekday",
    "deployments.first.timezone: expected an IANA name, such as Europe/Paris or UTC. Did you mean 'Europe/Paris'?",
    "deployments.second.timezon: there is no such field",
    "deployments.second.concurrency: ",
    "deployments.second.on_failure: there is no program no-such-program-anywhere",
    "deployments.second.config.measures: there is no such field: leave it out, or correct the name. Did you mean "
    "'measure'?",
    "deployments.second.config.dataset: ",
    "deployments.third/one: a name has up to 64 letters",
    "deployments.third/one.interval: expected a time from 10s to 366d",
    "deployments.third/one.config.runs: ",
    "deployments.third/one.config.proxies.0.model: ",
    "deployments.third/one.config.proxies.0.evaluate_on: ",
    "deployments.fourth.cron: expected five fields that some day has",
    "deployments.fourth.resources: the flow select takes none",
    "deployments.fourth.config.method: ",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tamis.toml"


def test_all_faults_are_told_at_once(store: Store, dataset: Dataset, file: Path) -> None:
    file.write_text(WRONG)
    with pytest.raises(ServiceFileError) as refused:
        check(file, store.root.url)
    told = str(refused.value)
    assert [fault for fault in FAULTS if fault not in told] == []
    assert "nothing was scheduled" in told
    assert "deployments.fourth.config.dataset" not in told, "what is there is no fault"


def test_what_other_deployments_make_counts_as_there(store: Store, file: Path) -> None:
    choose = '[deployments.choose]\nflow = "select"\ncron = "0 3 * * *"\nconfig = {dataset = "new", budget = "1%"}\n'
    file.write_text(choose)
    with pytest.raises(ServiceFileError, match=r"deployments\.choose\.config\.dataset: "):
        check(file, store.root.url)
    index = 'flow = "index"\ninterval = "1d"\nconfig = {name = "new", shards = ["new-{000..009}.tar"]}\n'
    file.write_text(f"{choose}[deployments.fetch]\n{index}")
    assert [one.full_name for one in check(file, store.root.url).deployments] == ["select/choose", "index/fetch"]


def test_a_missing_file_is_explained_by_an_example_that_works(tmp_path: Path, tamis: Tamis, made: Path) -> None:
    told = tamis("serve", tmp_path / "tamis.toml")
    assert told.code == 1
    assert EXAMPLE in told.err
    (tmp_path / "tamis-demo").mkdir()
    (tmp_path / "tamis-demo" / "store").symlink_to(made / "full")
    (tmp_path / "tamis.toml").write_text(EXAMPLE)
    (one,) = check(tmp_path / "tamis.toml", str(made / "full")).deployments
    assert (one.name, one.when, one.table.timezone) == ("nightly-choice", "0 3 * * *", "Europe/Paris")


@pytest.mark.parametrize(
    ("text", "told"), [("a = ", "is no TOML"), ("", "deployments: missing"), ('deployments = "x"', "deployments: ")]
)
def test_what_is_no_service(text: str, told: str, store: Store, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ServiceFileError, match=told):
        check(file, store.root.url)


def test_a_dry_run_shows_the_next_runs_and_schedules_nothing(tamis: Tamis, store: Store, dataset: Dataset) -> None:
    path = Path(str(store.root.path)).parent / "tamis.toml"
    path.write_text(
        'store = "store"\n[deployments.weekly]\nflow = "select"\ncron = "30 4 * * 1"\ntimezone = "Asia/Tokyo"\n'
        'config = {dataset = "digits", budget = "10%", method = "random"}\n'
    )
    said = tamis("serve", path, "--dry-run", "--json")
    (one,) = said.json["deployments"]
    times = [dt.datetime.fromisoformat(time) for time in one["next"]]
    assert [(time.weekday(), time.hour, time.minute, time.utcoffset()) for time in times] == (
        [(0, 4, 30, dt.timedelta(hours=9))] * 3
    )
    assert times[1] - times[0] == times[2] - times[1] == dt.timedelta(days=7)
    assert "weekly" in tamis("serve", path, "--dry-run").out


def test_a_digest_covers_what_a_server_is_told_and_no_more(store: Store, dataset: Dataset, file: Path) -> None:
    def digest(more: str = "", budget: str = "10%") -> str:
        head = f'[deployments.a]\nflow = "select"\ncron = "0 3 * * *"\n{more}\n'
        file.write_text(f'{head}config = {{dataset = "digits", budget = "{budget}"}}\n')
        (one,) = check(file, store.root.url).deployments
        return one.digest

    assert digest() == digest('on_failure = "http://127.0.0.1/hook"')
    assert len({digest(), digest(budget="20%"), digest("concurrency = 2"), digest('timezone = "Asia/Tokyo"')}) == 4


@pytest.mark.parametrize(("text", "value"), [("90s", 90), ("6h", 21_600), ("1d12h", 129_600), ("1x", 0), ("", 0)])
def test_intervals(text: str, value: int) -> None:
    assert seconds(text) == value
    if value:
        assert seconds(interval_of(value)) == value


def test_a_time_that_a_clock_change_leaves_out_comes_when_the_clocks_have_changed() -> None:
    """In Paris, 28 March 2027 has no half past two: Prefect takes the hour after, and the next day is as ever."""
    start = dt.datetime(2027, 3, 27, 12, tzinfo=dt.UTC)
    times = next_times(cron="30 2 * * *", interval=None, timezone="Europe/Paris", count=2, start=start)
    zone = ZoneInfo("Europe/Paris")
    assert [time.astimezone(zone).strftime("%d %H:%M") for time in times] == ["28 03:30", "29 02:30"]


def test_an_interval_is_counted_from_a_fixed_midnight() -> None:
    start = dt.datetime(2026, 11, 26, 15, 59, 30, tzinfo=dt.UTC)
    times = next_times(cron=None, interval=6 * 3600, timezone="UTC", count=2, start=start)
    assert [time.strftime("%d %H:%M") for time in times] == ["26 18:00", "27 00:00"]
