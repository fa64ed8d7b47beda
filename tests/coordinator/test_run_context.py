"""What all parts of a run share is settled once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from tests.coordinator.fleets import RUN, run_context


def test_nothing_of_it_is_replaced_later(tmp_path: Path) -> None:
    directory = RunDirectory.open(tmp_path)
    context = run_context(directory, Journal.open(directory.journal))
    assert (context.run, context.config.run_name) == (RUN, RUN)
    with pytest.raises(dataclasses.FrozenInstanceError):
        context.run = "another"  # type: ignore[misc]
