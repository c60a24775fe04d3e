"""kill -9 ten times at random moments, twice of a whole command: reruns complete, nothing is wrong or left."""

from pathlib import Path

from bench_chaos import WHEN, Chaos, serving

WORKS = ("index", "score", "select", "train", "renew", "remove", "rename", "gc")


def test_killed_ten_times(tmp_path: Path) -> None:
    with serving() as server:
        for name, kills, works in (("flows", 8, WORKS), ("commands", 2, ("tamis train",))):
            (tmp_path / name).mkdir()
            ledger = Chaos(tmp_path / name, server, works, variants=1).until(kills)
            assert (ledger.failed, ledger.wrong, ledger.problems, ledger.left) == ([], [], [], [])
            assert ledger.all == kills
            assert ledger.checks > 0
            assert sum(by[when] for by in ledger.kills.values() for when in WHEN) == kills
            assert all(done > 0 for done in ledger.completed.values())
