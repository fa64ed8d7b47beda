"""What a device's own head starts from in every round, decided by the coordinator's configuration."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fedlp_edge.core.settings import PersonalHeads, SchemeSettings
from fedlp_edge.worker.jobs import Train, Trained
from tests.fleets.standin import StandIn
from tests.fleets.virtual import VirtualFleet


class Watched(StandIn):
    """Notes where the head of each round comes from, and the seed of one that comes from nowhere."""

    def _train(self, job: Train) -> Trained:
        starts.append((Path(job.reused_path).name.partition(".")[2] if job.reused_path else None, job.head_seed))
        return super()._train(job)


starts: list[tuple[str | None, int]] = []


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("persist", [None, "round-1.safetensors", "round-2.safetensors"]), ("reset", [None, None, None])],
)
def test_personal_heads_start_where_the_configuration_says(
    tmp_path: Path, setting: PersonalHeads, expected: list[str | None]
) -> None:
    starts.clear()
    fleet = VirtualFleet(tmp_path, devices=1, rounds=3, head_mode="personal", worker={"dev-0": Watched})
    fleet.config = msgspec.structs.replace(fleet.config, scheme=SchemeSettings(personal_heads=setting, depth=1))
    fleet.start_all()
    fleet.finish()

    assert [name for name, _ in starts] == expected
    assert len({seed for _, seed in starts}) == 1
