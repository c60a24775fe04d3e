"""`tamis package profile`: a base model is measured once, and plans and reports read it."""

from typing import Any

import runkit

from tamis.store import Store


def test_a_profile_is_kept_and_used(tamis: Any, store: Store) -> None:
    ref = runkit.package(store, "people")
    assert "has no latency profile" in tamis("report", "mainstream", ref, "--figure", "sharing").err
    asked = ("package", "profile", "people", "--device", "cpu", "--threads", 1, "--repeats", 1)
    made = tamis(*asked, "--json")
    assert made.code == 0, made.err
    assert (made.json["threads"], made.json["version"], len(made.json["segments"])) == (1, 1, runkit.parts().segments)
    assert 0 < made.json["rest"] < made.json["whole"]
    (kept,) = store.packages.profiles.all()
    assert (list(kept.segments), kept.rest, kept.device) == (
        made.json["segments"], made.json["rest"], made.json["device"],
    )  # fmt: skip
    assert tamis("package", "plan", "people", "--budget", "100%", "--json").code == 0
    rows = tamis("report", "mainstream", ref, "--figure", "sharing", "--json").json["figures"][0]["rows"]
    assert rows[0]["rate of 1"] == 1 / made.json["whole"]
    assert "(profile version 2)" in tamis(*asked).out


def test_what_cannot_be_measured(tamis: Any, store: Store) -> None:
    said = tamis("package", "profile", "people")
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert "No package 'people'" in said.err
