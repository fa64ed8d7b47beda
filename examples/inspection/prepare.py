"""Writes Fashion-MNIST as folders of PNG pictures, one folder for each device: a stand-in for pictures of parts.

Each site sees another mix of classes, and another number of pictures.

    python prepare.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fedlp_edge.learning.data.dataset import Dataset, load_data

PICTURES = {"gateway": 1200, "station": 600, "camera": 300}
"""Pictures of each device."""
TEST, SAMPLES = 1000, 4


def main() -> None:
    """Writes ``DEVICE/CLASS/NUMBER.png``, ``all`` with the pictures of all devices, ``test``, and a few ``samples``."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    train, test = load_data("fashion-mnist", "train"), load_data("fashion-mnist", "test")
    random = np.random.default_rng(0)
    labels = train.y.numpy()
    order = random.permutation(len(labels))
    start = 0
    for device, count in PICTURES.items():
        # Of the pictures that are left, those of some classes are three times as likely as those of others.
        weights = random.choice([1.0, 3.0], size=10)
        left = order[start : start + 4 * count]
        start += 4 * count
        chance = weights[labels[left]] / weights[labels[left]].sum()
        for index in random.choice(left, size=count, replace=False, p=chance):
            save(directory / device, train, int(index))
            save(directory / "all", train, int(index))
    for index in range(TEST):
        save(directory / "test", test, index)
    for index in range(TEST, TEST + SAMPLES):
        picture(test, index).save(named(directory / "samples", f"{class_of(test, index)}-{index}.png"))
    print(", ".join(f"{device} {count}" for device, count in PICTURES.items()), "pictures, test", TEST)


def save(folder: Path, data: Dataset, index: int) -> None:
    """Writes one picture into the folder of its class."""
    picture(data, index).save(named(folder / class_of(data, index), f"{index:05}.png"))


def picture(data: Dataset, index: int) -> Image.Image:
    """Returns one grey picture."""
    return Image.fromarray(data.stored(torch.tensor([index]))[0, 0].numpy())


def class_of(data: Dataset, index: int) -> str:
    """Returns the name of a picture's class as a folder is called."""
    return data.classes[int(data.y[index])].replace("/", "-").lower().replace(" ", "-")


def named(folder: Path, name: str) -> Path:
    """Returns a file in a folder, which is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


if __name__ == "__main__":
    main()
