from __future__ import annotations

from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.reporting.round_accounting import Delivery, coverage, device_round, round_finished
from fedlp_edge.reporting.summary import DeviceRound, RoundSummary

L1 = Unit("L1", "0", "layer", 1, (TensorSpec("a", (2, 2)), TensorSpec("a.mean", (2,), "statistic")))
L2 = Unit("L2", "1", "layer", 2, ())
H1 = Unit("H1", "exit", "head", 1, (TensorSpec("h", (3,)),))
H2 = Unit("H2", "out", "head", 2, (TensorSpec("o", (5,)),))
BLUEPRINT = Blueprint("tiny", (2,), 2, "shared", (L1, L2, H1, H2), (DepthCost(1, 7, 7, 7), DepthCost(2, 12, 12, 12)))
PLACE = CohortMember("a", 1, 0.5, 100, 100, encoding="fp16")


def test_counts_parameters_of_what_was_sent_and_no_statistics() -> None:
    delivery = Delivery(
        sent={"L1": ("a", "a.mean"), "H1": ()},
        samples=90,
        weight=80,
        loss=0.25,
        seconds=2.0,
        bytes_down=700,
        bytes_up=300,
        compute="fp32",
    )

    assert device_round(PLACE, "pi", (L1, H1), delivery, staleness=3) == DeviceRound(
        id="a",
        profile="pi",
        depth=1,
        lpr=0.5,
        status="contributed",
        layers_sent=("L1",),
        samples=90,
        loss=0.25,
        seconds=2.0,
        params_down=7,
        params_up=4,
        bytes_down=700,
        bytes_up=300,
        encoding="fp16",
        compute="fp32",
        staleness=3,
    )


def test_device_that_did_not_deliver_still_cost_its_download() -> None:
    assert device_round(PLACE, "pi", (L1, H1), "failed", bytes_down=700, reason="no memory") == DeviceRound(
        id="a",
        profile="pi",
        depth=1,
        lpr=0.5,
        status="failed",
        params_down=7,
        bytes_down=700,
        encoding="fp16",
        reason="no memory",
    )


def test_ledger_names_each_unit_that_has_tensors_even_if_nobody_sent_it() -> None:
    ledger = coverage(BLUEPRINT, {"b": (("L1", "H2"), 20), "a": (("L1",), 10)})

    assert ledger == {"L1": {"a": 10, "b": 20}, "H1": {}, "H2": {"b": 20}}
    assert list(ledger["L1"]) == ["a", "b"]


def test_finished_round_is_told_with_who_sent_nothing_and_the_bytes_of_all() -> None:
    summary = RoundSummary(
        round=3,
        seconds=1.5,
        accuracy={1: 0.5},
        devices=(
            DeviceRound(id="a", profile="class-s", depth=1, lpr=1.0, status="contributed", bytes_down=100, bytes_up=7),
            DeviceRound(id="b", profile="class-s", depth=1, lpr=1.0, status="lost", bytes_down=50, bytes_up=1),
            DeviceRound(id="c", profile="class-s", depth=1, lpr=1.0, status="failed", bytes_down=3),
        ),
        coverage={},
    )
    told = round_finished(summary, contributors=1, warning="it is no better than chance")
    assert (told.round, told.seconds, told.accuracy, told.contributors) == (3, 1.5, {1: 0.5}, 1)
    assert (told.lost, told.bytes_down, told.bytes_up) == (("b",), 153, 8)
    assert told.warning == "it is no better than chance"
