"""Units that stay on their devices between two exchanges, in simulated runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import SchemeSettings
from fedlp_edge.simulation import LocalEngine, simulate
from tests.simulation.conftest import experiment
from tests.simulation.test_run import digest

EVERY = {"L1": 2, "H2": 3}


def test_unit_is_sent_when_it_is_due_alone(tmp_path: Path, engine: LocalEngine) -> None:
    scheme = SchemeSettings(exchange_every=EVERY)
    summary = simulate(experiment(scheme=scheme, rounds=RoundSettings(count=3)), tmp_path, engine=engine)
    assert [bool(entry.coverage["L1"]) for entry in summary.rounds] == [False, True, False]
    assert [bool(entry.coverage["H2"]) for entry in summary.rounds] == [False, False, True]
    assert all(entry.coverage["L2"] for entry in summary.rounds)


def test_unit_that_stays_at_home_is_trained_even_where_pruned_ones_are_frozen(
    tmp_path: Path, engine: LocalEngine
) -> None:
    """Nothing is pruned here but what stays at home, so freezing what is pruned must change nothing."""
    digests = {
        digest(simulate(experiment(scheme=scheme), tmp_path / scheme.prune, engine=engine))
        for scheme in (SchemeSettings(exchange_every=EVERY, prune=prune) for prune in ("upload", "train"))
    }
    assert len(digests) == 1


def test_periods_are_refused_where_rounds_overlap() -> None:
    with pytest.raises(ValueError, match="exchange_every needs rounds that all devices have in common"):
        experiment(scheme=SchemeSettings(exchange_every=EVERY), rounds=RoundSettings(mode="buffered"))
