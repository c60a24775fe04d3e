"""The command line, from an empty store to a trained target, on real digits."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow.parquet
import pytest

from tamis.flows.cli.app import cli
from tamis.store import Store

PROXY = ("--proxy", "preact8", "--epochs", 1, "--batch-size", 64, "--augment", "none")


@pytest.fixture
def indexed(tamis: Any, digits: dict[str, list[Path]], tmp_path: Path) -> Store:
    assert tamis("init").code == 0
    assert tamis("dataset", "add", "digits", *digits["train"]).code == 0
    assert tamis("dataset", "add", "digits-test", *digits["test"]).code == 0
    return Store.open(tmp_path / "store")


def test_the_whole_job(tamis: Any, indexed: Store, tmp_path: Path) -> None:
    scored = tamis("score", "uncertainty", "--dataset", "digits", *PROXY, "--ensemble", 2, "--json")
    assert scored.code == 0, scored.err
    first, second = scored.json
    assert first["parts_computed"] == first["parts"] == 5
    assert first["run"] != second["run"]

    for measure in ("entropy", "margin", "confidence"):
        said = tamis("select", "uncertainty", "--dataset", "digits", "--measure", measure, "--budget", "40%",
                     "--scores", first["run"][:10], "--json")  # fmt: skip
        assert said.code == 0, said.err
        assert said.json["selection"] == f"digits-{measure}@1"
        assert said.json["size"] == 599  # 40 % of 1,498, half up
    both = tamis("select", "uncertainty", "--dataset", "digits", "--budget", 0.4, "--name", "both",
                 "--scores", first["run"], "--scores", second["run"], "--beside-random", "--json")  # fmt: skip
    assert both.code == 0, both.err
    beside = indexed.selections.get(both.json["beside"])
    assert (beside.name, beside.method, beside.size) == ("both-random", "random", 599)

    # The selection is the top 40 % by the scores that SQL shows, ties to the lower sample.
    rows = tamis("sql", f"select sample from scores where run = '{first['run']}' and metric = 'entropy' "
                 "order by value desc, sample limit 599", "--json").json  # fmt: skip
    chosen, weights = indexed.selections.get("digits-entropy").round_at(0)
    assert chosen.tolist() == [row["sample"] for row in rows]
    assert (weights == 1).all()

    compared = tamis("score", "compare", first["run"], second["run"], "--json").json["correlation"]
    assert compared[0][0] == pytest.approx(1)
    assert compared[0][1] == compared[1][0]
    assert 0 < compared[0][1] < 1  # two proxies of one kind agree, and not wholly

    arguments = ("train", "--dataset", "digits", "--selection", "digits-entropy", "--model", "preact8", "--epochs", 2,
                 "--batch-size", 64, "--augment", "none", "--evaluate-on", "digits-test", "--json")  # fmt: skip
    trained = tamis(*arguments)
    assert trained.code == 0, trained.err
    assert trained.json["cached"] is False
    dataset = indexed.datasets.get("digits")
    assert trained.json["metrics"]["samples_read"] == 2 * 599
    images, whole = dataset.locations().size[chosen].sum(), dataset.extents().size[chosen].sum()
    assert 2 * images <= trained.json["metrics"]["bytes_read"] <= 2 * whole  # chosen samples and nothing else
    again = tamis(*arguments)
    assert again.json["cached"] is True
    assert again.json["run"] == trained.json["run"]

    listed = tamis("run", "ls", "--json").json
    assert sorted(r["kind"] for r in listed) == ["score", "score", "train", "train", "train"]
    assert tamis("run", "show", trained.json["run"][:8], "--json").json["selection"] == chosen_key(indexed)
    cost = indexed.selections.get("both").stats["seconds"]
    assert cost["proxy"] > 0
    assert cost["score"] > 0


def chosen_key(store: Store) -> str:
    return store.selections.get("digits-entropy").key


def test_a_cached_answer_touches_no_model(tamis: Any, indexed: Store) -> None:
    """The proof: the model's file and every scored part are gone, and the answer is the same."""
    arguments = ("score", "uncertainty", "--dataset", "digits", *PROXY, "--json")
    first = tamis(*arguments).json
    root = indexed.root
    for name, _ in [*root.list("blobs"), *root.list("parts")]:
        root.delete(name)
    second = tamis(*arguments)
    assert second.code == 0, second.err
    assert [r["run"] for r in second.json] == [r["run"] for r in first]
    assert second.json[0]["cached"] is True
    assert "Prefect" not in second.err


def test_an_appended_shard_costs_only_itself(tamis: Any, digits: dict[str, list[Path]]) -> None:
    tamis("init")
    tamis("dataset", "add", "digits", *digits["train"][:4])
    first = tamis("score", "uncertainty", "--dataset", "digits", *PROXY, "--json").json[0]
    assert tamis("dataset", "add", "digits", *digits["train"], "--append", "--json").json["dataset"] == "digits@2"
    said = tamis("score", "uncertainty", "--dataset", "digits", "--run", first["model_run"], "--json")
    assert said.code == 0, said.err
    assert (said.json[0]["parts_computed"], said.json[0]["parts"]) == (1, 5)
    query = "select run, count(*) n from scores where metric = 'entropy' group by run order by n"
    assert [r["n"] for r in tamis("sql", query, "--json").json] == [1200, 1498]
    same = """select count(*) as n from scores a join scores b using (metric, sample)
              where a.run <> b.run and a.value is distinct from b.value"""
    assert tamis("sql", same, "--json").json == [{"n": 0}]


def test_force_confirms_and_notices(tamis: Any, indexed: Store) -> None:
    arguments = ("score", "uncertainty", "--dataset", "digits", *PROXY, "--json")
    tamis(*arguments)
    confirmed = tamis(*arguments, "--force")
    assert confirmed.code == 0, confirmed.err
    assert confirmed.json[0]["confirmed"] is True
    name = indexed.root.list("parts")[0][0]
    data = dict(np.load(io.BytesIO(indexed.root.get(name) or b"")))
    data["entropy"] = data["entropy"] + 0.25
    changed = io.BytesIO()
    np.savez(changed, **data)
    indexed.root.put(name, changed.getvalue())
    noticed = tamis(*arguments, "--force")
    assert noticed.json[0]["confirmed"] is False

    pick = ("select", "random", "--dataset", "digits", "--budget", 100, "--json")
    assert tamis(*pick).json["created"] is True
    assert tamis(*pick).json["created"] is False
    assert tamis(*pick, "--force").json["confirmed"] is True


def test_samples_with_bad_logits_are_named_and_left_out(tamis: Any, indexed: Store) -> None:
    """A real model whose logits are NaN or infinite for some images: they are counted, named and never chosen."""
    trained = tamis("train", "--dataset", "digits", "--model", "tests.flows.broken_model:broken", "--epochs", 1,
                    "--batch-size", 64, "--augment", "none", "--json")  # fmt: skip
    assert trained.code == 0, trained.err
    said = tamis("score", "uncertainty", "--dataset", "digits", "--run", trained.json["run"], "--json")
    assert said.code == 0, said.err
    bad = said.json[0]["metrics"]["nonfinite"]
    assert 0 < bad < 1498
    assert f"{bad} samples are not finite" in said.err
    query = "select sample from scores where metric = 'entropy' and value is null"
    nan = {row["sample"] for row in tamis("sql", query, "--json").json}
    assert len(nan) == bad
    fits = tamis("select", "uncertainty", "--dataset", "digits", "--budget", 1498 - bad, "--json")
    assert fits.json["excluded"] == bad
    samples, _ = indexed.selections.get("digits-entropy").round_at(0)
    assert not nan & set(samples.tolist())
    over = tamis("select", "uncertainty", "--dataset", "digits", "--budget", 1498 - bad + 1)
    assert over.code == 1
    assert str(bad) in over.err


@pytest.mark.parametrize("budget", ["140 %", "abc", "0", "-3", "1499", "1.5", "nan"])
def test_bad_budgets(tamis: Any, indexed: Store, budget: str) -> None:
    said = tamis("select", "random", "--dataset", "digits", "--budget", budget)
    assert said.code == 1
    assert budget in said.err
    assert "expected" in said.err
    assert indexed.selections.all() == []


def test_unknown_things_are_named_with_what_there_is(tamis: Any, indexed: Store) -> None:
    for arguments, wanted, code in (
        (("select", "forgetting", "--dataset", "digits", "--budget", "40%"), "random, random-pb", 2),
        (("select", "random", "--dataset", "nope", "--budget", "40%"), "digits, digits-test", 1),
        (("select", "random", "--dataset", "digits@3", "--budget", "40%"), "versions 1 to 1", 1),
        (
            ("select", "uncertainty", "--dataset", "digits", "--budget", "40%"),
            "score uncertainty --dataset digits@1",
            1,
        ),
        (("selection", "show", "nope"), "there are: none", 1),
        (("train", "--dataset", "digits", "--model", "preact21"), "preact20", 1),
        (("train", "--dataset", "digits", "--model", "resnet19"), "resnet18", 1),
        (("train", "--dataset", "digits", "--model", "nowhere:model"), "nowhere", 1),
        (("train", "--dataset", "digits", "--model", "preact8", "--lr", -1), "lr", 2),
        (("run", "show", "feed"), "feed", 1),
        (("score", "uncertainty", "--dataset", "digits"), "--proxy", 2),
        (("dataset", "add", "Bad Name", "x.tar"), "Bad Name", 1),
        (("dataset", "add", "x", "/nowhere/*.tar"), "matches no file", 1),
        (("sql", "select * from nothing"), "selection_samples", 1),
        (("sql", "select 1", "--at", "yesterday"), "2026-11-20T10:00:00", 1),
        (("serve", "nope.toml"), "[deployments.nightly-choice]", 1),
        (("schedule", "ls", "--file", "nope.toml"), "No service runs on the server in", 1),
    ):
        said = tamis(*arguments)
        assert said.code == code, (arguments, said)
        assert wanted in said.err, (arguments, said.err)
        assert "Traceback" not in said.err


def test_advice_where_uncertain_samples_train_worse(tamis: Any, indexed: Store) -> None:
    """Once, in a line, below half of the data, and in the JSON; never on stdout, where the answer is."""
    indexed.runs.begin(kind="score", key="5c0e" + "0" * 28, dataset="digits@1", model="by hand")
    indexed.runs.put_scores("5c0e" + "0" * 28, {"entropy": np.arange(1498.0)}, np.arange(1498))
    indexed.runs.finish("5c0e" + "0" * 28)
    asked = ("select", "uncertainty", "--dataset", "digits", "--budget")
    few = tamis(*asked, 748)
    assert few.err.count("Below half of the data") == few.err.count("--beside-random") == 1
    assert "Below half" not in few.out
    assert "random" in tamis(*asked, 748, "--json").json["advice"]
    half = tamis(*asked, 749, "--json")
    assert (half.json["advice"], half.err.strip()) == (None, "")
    assert tamis("select", "random", "--dataset", "digits", "--budget", 10, "--json").json["advice"] is None


def test_a_method_of_ones_own(tamis: Any, indexed: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parameters are options, with their types and ranges."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_of_cli.py").write_text(
        "from typing import Literal\nimport numpy as np\nfrom tamis.curation import Choice\n"
        "def some(inputs, *, k, side: Literal['first', 'last'] = 'first', generator):\n"
        "    at = np.arange(inputs.n)[:: 1 if side == 'first' else -1][:k]\n"
        "    return Choice(at, np.ones(k, np.float32))\n"
    )
    asked = ("select", "own_of_cli:some", "--dataset", "digits", "--budget", 3)
    assert "[first|last]" in tamis("select", "own_of_cli:some", "--help").out
    said = tamis(*asked, "--side", "last", "--beside-random", "--json")
    assert said.code == 0, said.err
    assert indexed.selections.get("digits-some").round_at(0)[0].tolist() == [1497, 1496, 1495]
    assert said.json["beside"] == "digits-some-random@1"
    assert "own_of_cli:none" in tamis("select", "own_of_cli:none", "--dataset", "digits", "--budget", 3).err


def test_choosing_by_features(tamis: Any, indexed: Store) -> None:
    """Three vectors only: the third choice brings the radius to 0."""
    key = "fea7" + "0" * 28
    indexed.runs.begin(kind="features", key=key, dataset="digits@1", model="by hand", config={})
    indexed.runs.put_features(key, iter([(np.arange(1498), np.eye(3, dtype=np.float32)[np.arange(1498) % 3])]))
    indexed.runs.finish(key)
    said = tamis("select", "k-center", "--dataset", "digits", "--budget", 3, "--features", key[:6], "--json")
    assert said.code == 0, said.err
    chosen = indexed.selections.get("digits-k-center")
    assert (chosen.inputs, chosen.rounds[0].objective) == ((key,), 0)
    assert sorted((chosen.round_at(0)[0] % 3).tolist()) == [0, 1, 2]


def test_errors_are_json_when_asked(tamis: Any, indexed: Store) -> None:
    said = tamis("dataset", "show", "nope", "--json")
    assert said.code == 1
    assert json.loads(said.err)["error"] == "DatasetNotFound"


def test_without_a_store(tamis: Any, tmp_path: Path) -> None:
    said = tamis("dataset", "ls")
    assert said.code == 1
    assert "init" in said.err


def test_export_and_diff(tamis: Any, indexed: Store, tmp_path: Path) -> None:
    tamis("select", "random", "--dataset", "digits", "--budget", 10, "--name", "a")
    tamis("select", "random", "--dataset", "digits", "--budget", 20, "--name", "b")
    rows = list(csv.DictReader(io.StringIO(tamis("selection", "export", "a").out)))
    samples, _ = indexed.selections.get("a").round_at(0)
    assert [int(r["sample"]) for r in rows] == samples.tolist()
    assert [r["key"] for r in rows] == indexed.datasets.get("digits").keys(samples)
    out = tmp_path / "chosen.parquet"
    assert tamis("selection", "export", "b", "--format", "parquet", "--out", out).code == 0
    assert pyarrow.parquet.read_table(out).num_rows == 20
    found = tamis("selection", "diff", "a", "b", "--json").json
    assert (found["in_both"], found["only_in_first"], found["only_in_second"]) == (10, 0, 10)  # nested by seed
    assert found["jaccard"] == 0.5


def test_every_command_has_help_with_an_example() -> None:
    def walk(path: list[str], command: Any) -> None:
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                walk([*path, name], command.get_command(context, name))
            return
        assert "Example" in (command.help or ""), path
        assert any("--json" in o.opts for o in command.params), path

    walk(["tamis"], cli)


def test_doctor(tamis: Any, indexed: Store, digits: dict[str, list[Path]]) -> None:
    found = tamis("doctor", "--json")
    assert found.code == 0
    assert found.json["datasets"] == 2
    assert found.json["problems"] == []


def test_doctor_names_a_missing_shard(tamis: Any, tmp_path: Path, digits: dict[str, list[Path]]) -> None:
    tamis("init")
    copy = tmp_path / "copy.tar"
    copy.write_bytes(digits["test"][0].read_bytes())
    tamis("dataset", "add", "digits", copy)
    copy.unlink()
    found = tamis("doctor", "--json")
    assert found.code == 1
    assert str(copy) in found.json["problems"][0]


def test_doctor_reports_what_it_cannot_look_at(
    tamis: Any, indexed: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that is not there and damaged tables are problems, each a line; the rest is told as ever."""
    monkeypatch.setenv("PREFECT_API_URL", "http://ann:secret@127.0.0.1:9/api")
    for file in (tmp_path / "store" / "tables" / "selections" / "_delta_log").glob("*.json"):
        file.write_text("no log\n")
    said = tamis("doctor", "--json")
    assert said.code == 1
    found = json.loads(said.out)
    assert found["prefect server"] == "http://127.0.0.1:9/api"
    assert (found["access"], found["datasets"], found["runs"]) == ("read and write", 2, 0)
    assert found["problems"][0].startswith("The Prefect server at http://127.0.0.1:9/api does not answer")
    assert len(found["problems"]) == 2
    assert "selections" in found["problems"][1]
    plain = tamis("doctor").out
    assert plain.count("Problem: ") == 2
    assert "secret" not in said.out + plain


def test_random_samples_can_be_other_ones_each_round(tamis: Any, indexed: Store) -> None:
    """Adaptive random, the baseline of choices that change as the training goes."""
    asked = ("select", "random", "--dataset", "digits", "--budget", 100, "--rounds", 3, "--every", 5, "--name", "anew")
    assert tamis(*asked).code == 0
    rounds = indexed.selections.get("anew").rounds
    assert [(r.first_epoch, r.size) for r in rounds] == [(0, 100), (5, 100), (10, 100)]
    assert len({tuple(indexed.selections.get("anew").read_round(i)[0].tolist()) for i in range(3)}) == 3
    said = tamis("select", "random-pb", "--dataset", "digits", "--budget", 100, "--rounds", 0)
    assert said.code == 2


def test_help_waits_for_no_table_format() -> None:
    """What the command line needs before a command runs: not Arrow, Delta or pydantic."""
    heavy = ("pyarrow", "deltalake", "obstore", "pydantic", "prefect", "torch")
    code = f"import sys, tamis.flows.cli.app; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
