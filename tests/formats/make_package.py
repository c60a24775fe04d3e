"""Write the artefact of the present package format: python tests/formats/make_package.py

As with stores, it is made once and kept for ever: every later tamis must import it.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from tamis.store import Store
from tamis.store.keys import key_of
from tamis.store.packages import Candidate, EventFigures, NewPackage
from tamis.store.packages.manifest import FORMAT

HERE = Path(__file__).parent


def write(store: Store, folder: Path) -> None:
    """A package of two candidates on a base of two layers, with something in every field."""
    packages = store.packages
    base = packages.bases.put(
        save({"stem.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.weight": np.ones((4, 2), np.float32)}),
        model="two-layers", outputs=4, channels=3, image_size=8, mean=[0.5, 0.25, 0.125], std=[1.0, 0.5, 0.25],
        source="written by hand",
    )  # fmt: skip
    done: list[Candidate] = []
    for branch, accuracy in ((0, 0.9375), (1, 0.875)):
        key = key_of("candidate", {"base": base.key, "branch": branch})
        one = Candidate(
            key, base.key, branch, "stem" if branch else "", branch, 10 - 6 * branch, accuracy, 0.75, 0.0625,
            correlation=None if branch else 0.25, metrics={"epochs": 3, "loss": [0.5, 0.25]}, seconds=1.5,
        )  # fmt: skip
        layers = {"head.weight": np.full((2, 2), 0.5 + branch, np.float32)}
        if not branch:
            layers["stem.weight"] = np.zeros((2, 3), np.float16)
        done.append(packages.finish_candidate(one, save(layers)))
    events = EventFigures(
        average=2.5, minimum=1.0, frequency=0.125, correlation=0.25, measured=("average", "frequency")
    )
    new = NewPackage(
        "trains", base.key, "street@1", "street-hard@2", ("nothing", "train ✓"), "train ✓", events, 8, 7,
        {"optimizer": "adam", "lr": 0.0001}, {"video": "crossing.avi"},
    )  # fmt: skip
    packages.publish(new, done)
    packages.export("trains", folder)


def main() -> None:
    kept = HERE / f"package-format-{FORMAT}"
    if kept.exists():
        sys.exit(f"{kept.name} is there already: a released format is kept as it is.")
    with tempfile.TemporaryDirectory() as folder:
        write(Store.create(Path(folder) / "store"), kept)
    print(f"{kept.name}: {sum(p.stat().st_size for p in kept.iterdir())} bytes")


if __name__ == "__main__":
    main()
