"""Fleets of processes that hold arrays on the disk, pictures read when they are needed, sounds, and tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.fleet import Fleet

pytest.importorskip("pandas")
wavfile = pytest.importorskip("scipy.io.wavfile")

JUDGED_ON_DEVICES = """
[data]
evaluate = ""
"""
SAMPLES = 24
"""Samples of a class on each device."""

CLASSES = ("high", "low")


def write_arrays(folder: Path, random: np.random.Generator) -> str:
    """Arrays of which one class is bright."""
    folder.mkdir()
    y = np.arange(2 * SAMPLES) % 2
    x = random.normal(size=(len(y), 1, 8, 8)) + np.where(y == 0, 1.0, -1.0)[:, None, None, None]
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "y.npy", y)
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return f"npy:{folder}"


def write_pictures(folder: Path, random: np.random.Generator) -> str:
    for name, level in zip(CLASSES, (190, 60), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(SAMPLES):
            pixels = random.integers(level - 50, level + 50, (11, 9)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return f"imagefolder:{folder}#cache=0"


def write_sounds(folder: Path, random: np.random.Generator) -> str:
    for name, hertz in zip(CLASSES, (2500, 250), strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(SAMPLES):
            wave = np.sin(2 * np.pi * hertz * random.uniform(0.9, 1.1) * np.arange(800) / 8000)
            wavfile.write(folder / name / f"{number}.wav", 8000, wave.astype(np.float32))
    return f"audiofolder:{folder}#rate=8000&seconds=0.07&mels=8&cache=0"


def write_table(path: Path, random: np.random.Generator) -> str:
    import pandas  # an extra

    rows = random.normal(size=(120, 2)) * (5, 0.1) + (20, 1)
    load = 3 * rows[:, 0] - 20 * rows[:, 1] + 7
    pandas.DataFrame({"warm": rows[:, 0], "wind": rows[:, 1], "load": load}).to_parquet(path)
    return f"parquet:{path}#target=load"


def judged(summary: Summary) -> None:
    """Every device has trained in every round, and proved its file."""
    assert all(device.status == "contributed" for round in summary.rounds for device in round.devices)
    assert sum(proof.asked for proof in summary.proofs) == len(summary.devices)
    assert [proof.proved for proof in summary.proofs] == [proof.asked for proof in summary.proofs]
    assert not summary.refused


def test_arrays_pictures_and_sounds_on_three_devices(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    random = np.random.default_rng(1)
    kinds = (write_arrays, write_pictures, write_sounds)
    data = [write(tmp_path / write.__name__, random) for write in kinds]
    with Fleet(
        tmp_path / "fleet", mosquitto.url, "kinds", devices=3, rounds=3, classes=2, more=JUDGED_ON_DEVICES
    ) as fleet:
        fleet.start_all(*data)
        summary = fleet.finish()

    judged(summary)
    assert all(36 <= device.samples < 2 * SAMPLES for device in summary.rounds[0].devices)
    assert summary.final is not None
    (scores,) = summary.final.on_devices.values()
    assert scores.mean["accuracy"] > 0.9
    assert summary.final.answers is not None
    assert summary.final.answers.names == CLASSES


def test_tables_with_a_number_to_learn(tmp_path: Path, mosquitto: MosquittoBroker) -> None:
    random = np.random.default_rng(2)
    data = [write_table(tmp_path / f"{number}.parquet", random) for number in range(2)]
    with Fleet(
        tmp_path / "fleet", mosquitto.url, "tables", devices=2, rounds=3, shape=(2,), classes=1, task="regression",
        more=JUDGED_ON_DEVICES,
    ) as fleet:  # fmt: skip
        fleet.start_all(*data)
        summary = fleet.finish()

    judged(summary)
    assert summary.final is not None
    (scores,) = summary.final.on_devices.values()
    assert scores.mean["rmse"] < 5  # the standard deviation of what is learned is about 15
    assert summary.final.answers is not None
    (load,) = summary.final.answers.values
    assert (load.name, load.low < 50 < load.high) == ("load", True)
