"""Agents that are ended in the midst of a round, in virtual time (see ``virtual``)."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.protocol.events import Leave
from fedlp_edge.reporting.events import AnyEvent, RoundStarted
from tests.fleets.virtual import VirtualFleet


@pytest.mark.parametrize(("again", "contributors"), [(None, [3, 2]), (10.0, [3, 3, 3]), (40.0, [3, 2, 3])])
def test_round_waits_for_an_ended_agent_as_long_as_a_restart_may_take(
    tmp_path: Path, again: float | None, contributors: list[int]
) -> None:
    """The deadline of five minutes is for those whose connection is lost."""
    story = VirtualFleet(tmp_path, devices=3, rounds=len(contributors), deadline_seconds=300.0, rejoin_seconds=20.0)

    def told(event: AnyEvent) -> None:
        if isinstance(event, RoundStarted) and event.round == 2:
            agent = story.world.lives["dev-2"]
            story.world.after(0.1, lambda: agent.inbox.put(Leave()))
            if again is not None:
                story.world.after(again, lambda: story.start("dev-2"))

    story.on_event = told
    story.start_all()
    rounds = story.finish().rounds

    assert [sum(device.status == "contributed" for device in record.devices) for record in rounds] == contributors
    assert story.world.now < 60.0


def test_round_that_was_taken_up_again_knows_which_agent_was_ended(tmp_path: Path) -> None:
    story = VirtualFleet(tmp_path, devices=3, rounds=2, deadline_seconds=300.0, rejoin_seconds=20.0)

    def told(event: AnyEvent) -> None:
        if isinstance(event, RoundStarted) and event.round == 2 and "coordinator" in story.world.lives:
            agent = story.world.lives["dev-2"]
            if not agent.ended:
                story.world.after(0.1, lambda: agent.inbox.put(Leave()))
                story.world.after(0.2, story.world.lives["coordinator"].kill)

    story.on_event = told
    story.start_all()
    rounds = story.finish().rounds

    assert [sum(device.status == "contributed" for device in record.devices) for record in rounds] == [3, 2]
    assert story.world.now < 90.0
