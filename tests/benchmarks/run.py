"""Run the benchmarks: python tests/benchmarks/run.py [NAME ...] [OPTION ...]; --help lists them

NAME is index, sql, publish, ...: the `bench_NAME.py` beside this file; all of them by default. --data (or
TAMIS_BENCH_DATA) is a folder with train-*.tar, such as CIFAR-10 in WebDataset shards; without it scikit-learn's digits
serve. --cache (or TAMIS_BENCH_CACHE) keeps what takes minutes to make. --kills (or TAMIS_BENCH_KILLS) is how many
kills `chaos` goes on to. --cords (or TAMIS_BENCH_CORDS) is a checkout of
CORDS, which the pursuit is measured against. --published (or TAMIS_BENCH_PUBLISHED) is a JSON file of the accuracy
curves and layer latencies that Mainstream's authors published; without it such curves are generated. Prints a table and
writes it as JSON.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchlib import Result, table

# Before torch is loaded: threads that spin at barriers measure the machine's other work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

HERE = Path(__file__).parent
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def measure(name: str, quick: bool, data: Path | None) -> list[Result]:
    """One benchmark's results."""
    return importlib.import_module(f"bench_{name}").run(quick, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: that it runs, not how fast it is")
    parser.add_argument("--data", type=Path, default=os.environ.get("TAMIS_BENCH_DATA"))
    parser.add_argument("--cache", default=os.environ.get("TAMIS_BENCH_CACHE"))
    parser.add_argument("--cords", default=os.environ.get("TAMIS_BENCH_CORDS"))
    parser.add_argument("--kills", default=os.environ.get("TAMIS_BENCH_KILLS"))
    parser.add_argument("--published", default=os.environ.get("TAMIS_BENCH_PUBLISHED"))
    parser.add_argument("--json", type=Path, default=Path(".benchmarks/results.json"))
    given = parser.parse_args()
    if unknown := sorted(set(given.names) - set(NAMES)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    if given.cache:
        os.environ["TAMIS_BENCH_CACHE"] = str(given.cache)
    if given.kills:
        os.environ["TAMIS_BENCH_KILLS"] = str(given.kills)
    if given.cords:
        os.environ["TAMIS_BENCH_CORDS"] = str(given.cords)
    if given.published:
        os.environ["TAMIS_BENCH_PUBLISHED"] = str(given.published)
    everything: dict[str, list[Result]] = {}
    for name in given.names or NAMES:
        print(f"== {name}", flush=True)
        everything[name] = measure(name, given.quick, given.data)
        print(table(everything[name]), end="\n\n", flush=True)
    _write(given.json, everything, given.quick)
    missed = [r.name for results in everything.values() for r in results if r.met is False]
    print(f"{len(missed)} targets missed: {'; '.join(missed)}" if missed else "all targets met")


def _write(path: Path, everything: dict[str, list[Result]], quick: bool) -> None:
    rows = [
        {"benchmark": name, **asdict(r), "ratio": r.ratio, "met": r.met}
        for name, results in everything.items()
        for r in results
    ]
    about = {
        "python": platform.python_version(), "machine": platform.machine(), "processors": os.cpu_count(),
        "quick": quick, "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
