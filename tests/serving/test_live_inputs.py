"""Inputs that stay on the device for the next exam: a ring of files, and nothing where no agent asked for it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np

from fedlp_edge.serving.live_inputs import KEPT, MAX_INPUT_BYTES, LiveInputs, held_out_samples, live_inputs


def array(value: float) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.full(2, value, np.float32))
    return buffer.getvalue()


def test_every_few_inputs_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    ring = LiveInputs(tmp_path, every=3)
    for number in range(7):
        ring.add(array(number))
    assert sorted(float(np.load(path)[0]) for path in live_inputs(tmp_path)) == [0.0, 3.0, 6.0]


def test_ring_forgets_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    ring = LiveInputs(tmp_path, every=1)
    for number in range(KEPT):
        ring.add(array(number))
    ring.add(b"picture")
    assert len(live_inputs(tmp_path)) == KEPT
    assert [path.name for path in live_inputs(tmp_path) if path.suffix == ".picture"] == ["000.picture"]


def test_newest_comes_first(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    ring = LiveInputs(tmp_path, every=1)
    for number in range(3):
        ring.add(array(number))
        os.utime(tmp_path / "live" / f"{number:03d}.npy", (number, number))
    assert [path.stem for path in live_inputs(tmp_path)] == ["002", "001", "000"]


def test_nothing_is_kept_unless_an_agent_made_the_directory_or_if_it_is_large(tmp_path: Path) -> None:
    LiveInputs(tmp_path, every=1).add(b"picture")
    assert live_inputs(tmp_path) == []
    (tmp_path / "live").mkdir()
    LiveInputs(tmp_path, every=1).add(bytes(MAX_INPUT_BYTES + 1))
    assert live_inputs(tmp_path) == []


def test_held_out_samples_have_their_labels_in_their_names(tmp_path: Path) -> None:
    (tmp_path / "held_out").mkdir()
    for name in ("0001=cat.npy", "0002.npy", "note.txt"):
        (tmp_path / "held_out" / name).write_bytes(b"")
    assert [label for _, label in held_out_samples(tmp_path)] == ["cat", ""]
