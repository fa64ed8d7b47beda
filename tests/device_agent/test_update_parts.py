from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_agent.protocol.events import TrainRound
from device_agent.update_parts import part_files
from fedlp_edge.core.settings import Encoding
from fedlp_edge.wire.admission import Admission, Expectation
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Offer, UnitPayload
from fedlp_edge.wire.tensors import pack_file
from tests.device_agent.support import BLUEPRINT, task

RETAINED = {"L1": ("L1.w",), "H1": ("H1.w",)}


def trained(directory: Path, encoding: Encoding, *, round: int = 1, device: str = "pi") -> dict[str, Path]:
    """The parts of a round in which L1 moved by 1 and 0.3, and the head by 2."""
    directory.mkdir(exist_ok=True)
    pack_file({"L1.w": np.array([1.0, 0.3], np.float32)}, directory / "L1.safetensors")
    pack_file({"H1.w": np.array([2.0], np.float32)}, directory / "H1.safetensors")
    effect = TrainRound(
        task=task(encoding=encoding, round=round, device=device),
        fingerprint="f",
        order=("L1", "H1"),
        sent=RETAINED,
        bytes_down=0,
        tensors={unit: BLUEPRINT.by_id[unit].tensors for unit in RETAINED},
    )
    return part_files(effect, directory)


def test_sends_the_workers_files_as_they_are_when_nothing_is_asked_for(tmp_path: Path) -> None:
    paths = trained(tmp_path, "none")
    assert paths == {"L1": tmp_path / "L1.safetensors", "H1": tmp_path / "H1.safetensors"}


@pytest.mark.parametrize("encoding", ["fp16", "int8", "none+zstd", "fp16+zstd", "int8+zstd"])
def test_admission_takes_what_was_encoded(tmp_path: Path, encoding: Encoding) -> None:
    paths = trained(tmp_path, encoding)
    parts = {unit: path.read_bytes() for unit, path in paths.items()}
    blob = b"".join(parts.values())
    units = (UnitPayload("L1", 0, len(parts["L1"])), UnitPayload("H1", len(parts["L1"]), len(parts["H1"])))
    offer = Offer(
        run="run",
        round=1,
        device="pi",
        session="s",
        digest=digest_of(blob),
        size=len(blob),
        units=units,
        samples=1,
        loss=0.0,
        seconds=0.0,
        bytes_down=0,
    )
    deltas = Admission("run", BLUEPRINT).admit(offer, blob, Expectation("pi", 1, 1, 1, RETAINED, encoding)).deltas
    np.testing.assert_allclose(deltas["L1.w"], [1.0, 0.3], atol=1 / 127)
    np.testing.assert_allclose(deltas["H1.w"], [2.0], rtol=1e-6)


def test_encodes_a_repeated_round_alike_and_others_otherwise(tmp_path: Path) -> None:
    values = [
        trained(tmp_path / str(number), "int8", round=round, device=device)["L1"].read_bytes()
        for number, (round, device) in enumerate([(1, "pi"), (1, "pi"), *((r, d) for r in range(2, 30) for d in "ab")])
    ]
    assert values[0] == values[1]
    assert len(set(values)) == 2  # 0.3 is rounded up in some, down in others
