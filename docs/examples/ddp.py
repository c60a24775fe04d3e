"""Plain PyTorch DDP on a selection. Of tamis it knows `Store` and `SelectionStream`, and nothing else.

    torchrun --standalone --nproc-per-node 2 docs/examples/ddp.py STORE SELECTION CHECKPOINT

Stop it anywhere, also by `kill -9`, and run it again, with another --nproc-per-node if you like: it goes on from the
checkpoint with exactly the samples that the epoch had left, as many batches on every rank.
"""

import os
import sys
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tamis.store import Store
from tamis.training import SelectionStream

EPOCHS, EVERY = 2, 4  # epochs in all; steps from one checkpoint to the next


def main(store: str, selection: str, checkpoint: str) -> None:
    distributed.init_process_group("gloo")
    opened = Store.open(store)
    stream = SelectionStream(opened, opened.selections.get(selection), batch_size=32, channels=1, image_size=8)
    model = DistributedDataParallel(nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, weights_only=True)
        for name, part in (("model", model), ("optimizer", optimizer), ("stream", stream)):
            part.load_state_dict(saved[name])
    for epoch in range(stream.state_dict()["epoch"], EPOCHS):
        for step, batch in enumerate(stream.epoch(epoch), 1):
            losses = nn.functional.cross_entropy(model(batch.images / 255), batch.labels, reduction="none")
            weight = batch.weights.sum()  # of all ranks, shared out: DDP takes the mean of what the ranks find
            distributed.all_reduce(weight)
            optimizer.zero_grad()
            ((losses * batch.weights).sum() / (weight / stream.world)).backward()
            optimizer.step()
            if step % EVERY == 0:
                save(checkpoint, model=model, optimizer=optimizer, stream=stream)
        save(checkpoint, model=model, optimizer=optimizer, stream=stream)
    distributed.destroy_process_group()


def save(path: str, **parts: Any) -> None:
    """By one rank, and under its name only when it is whole. The stream's state is the same on every rank."""
    if distributed.get_rank() == 0:
        torch.save({name: part.state_dict() for name, part in parts.items()}, f"{path}.part")
        os.replace(f"{path}.part", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
