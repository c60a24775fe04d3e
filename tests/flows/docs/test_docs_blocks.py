"""Every block of shell and Python in the pages runs, or says above itself why no test can run it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pageblocks import NAMES, PAGES, ROOT, SHELLS, Shell, language, marked, read, script, shorter_python

# Pages that begin with an empty folder; the others take a store with datasets, runs and selections for granted.
_FROM_NOTHING = ("README.md", "docs/tutorial.md")

NOT_RUN = 47  # blocks of which a page says why; change it with the page

# What blocks of Python take for granted, as the text around them says.
_GIVEN = """
import torch
from torch.nn import functional
from tamis.store import Store
from tamis.training import SelectionStream
store = Store.open("work")
run = "9b20c4"
logits = torch.eye(10).repeat(200, 1)
epochs, model = 1, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
batches = [(torch.arange(200), torch.rand(200, 1, 8, 8), torch.arange(200) % 10)]
stream = SelectionStream(store, store.selections.get("cifar10-random"), seed=0, batch_size=50)
"""


def test_blocks_that_do_not_run_are_few() -> None:
    """A reason is given for each of them; only those that need more than this machine and a minute may."""
    blocks = [block for page in PAGES for block in read(page) if language(block) != "toml"]
    reasons = [why for block in blocks if (why := marked(block, "not run")) is not None]
    assert all(len(why) > 8 for why in reasons)
    assert len(reasons) == NOT_RUN
    assert len(blocks) - len(reasons) > len(reasons)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:constrained_layout not applied")  # one epoch makes labels longer than its plot
@pytest.mark.parametrize("name", [n for n, page in zip(NAMES, PAGES, strict=True) if read(page)])
def test_blocks_run(name: str, folder_of: Callable[[bool], Shell], monkeypatch: pytest.MonkeyPatch) -> None:
    """In the page's order, over digits; what earlier blocks made, wrote and exported is there for later ones."""
    blocks = [block for block in read(ROOT / name) if marked(block, "not run") is None]
    if not blocks:
        return
    shell = folder_of(name not in _FROM_NOTHING)
    monkeypatch.chdir(shell.folder)
    names: dict[str, object] = {}
    for block in blocks:
        file = marked(block, "file") or "".join(re.findall(r"\A# (\w+\.py)\n", str(block.parsed)))
        if file:
            Path(file).write_text(str(block.parsed))
        if language(block) in SHELLS:
            shell.run(script(block))
        elif language(block) == "python":
            if name not in _FROM_NOTHING:
                exec(shell.replaced(_GIVEN), names)
            source = shell.replaced(shorter_python(str(block.parsed)))
            exec(compile("\n" * block.line + shell.placed(source), name, "exec"), names)
