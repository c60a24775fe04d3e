"""Train on curated shards with stock webdataset and PyTorch; nothing here knows tamis.

tamis selection materialize NAME shards --shard-size 16MiB
python docs/examples/webdataset_curated.py shards/curated-*.tar --epochs 5 --workers 2
"""

import argparse

import torch
import webdataset as wds
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("shards", nargs="+")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--classes", type=int, default=10)
parser.add_argument("--workers", type=int, default=0)


def weight(added: dict[str, float]) -> float:
    return added["weight"]


def main(shards: list[str], epochs: int, classes: int, workers: int) -> None:
    # Whole shards go to workers, so there are no more workers than shards; with DDP add nodesplitter=wds.split_by_node.
    data = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000).decode("torchrgb")
    data = data.to_tuple("png", "cls", "tamis.json").map_tuple(None, None, weight).batched(64)
    loader = wds.WebLoader(data, batch_size=None, num_workers=min(workers, len(shards)))
    net = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, classes)]
    model = nn.Sequential(*net)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(epochs):
        seen = right = 0
        for images, labels, weights in loader:
            labels, weights = torch.as_tensor(labels), torch.as_tensor(weights, dtype=torch.float32)
            logits = model(images)
            loss = (nn.functional.cross_entropy(logits, labels, reduction="none") * weights).sum() / weights.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen, right = seen + len(labels), right + int((logits.argmax(1) == labels).sum())
        print(f"epoch {epoch}: {seen} samples, {right / seen:.1%} right")


if __name__ == "__main__":
    main(**vars(parser.parse_args()))
