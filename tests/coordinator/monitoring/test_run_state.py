"""The state of a run as one object, for programs that know nothing of the protocol."""

from __future__ import annotations

import msgspec

from coordinator.monitoring.run_state import DeviceCounts, RunState, run_state
from fedlp_edge.core.device_scores import DeviceScores
from fedlp_edge.reporting.events import (
    AnyEvent,
    DeviceJoined,
    DeviceLeft,
    DeviceUnfit,
    RoundFinished,
    RoundStarted,
    RunStarted,
    RunStopped,
)
from fedlp_edge.reporting.progress import RunProgress

STARTED = RunStarted(time=1.0, run="shop-1", fleet="shop", model="mlp", depths=3, parameters=9, rounds=4)
STARTS = RoundStarted(time=4.0, round=1, devices=("a",), deadline_seconds=9)


def joined(device: str, depth: int) -> DeviceJoined:
    return DeviceJoined(time=1.0, device=device, profile="x", samples=5, depth=depth, lpr=1.0, explanation="")


def after(*events: AnyEvent) -> RunState:
    progress = RunProgress()
    for event in (STARTED, *events):
        progress.apply(event)
    return run_state(progress)


def finished(**more: object) -> RoundFinished:
    return RoundFinished(
        **{"time": 9.0, "round": 1, "seconds": 2.0, "accuracy": {}, "contributors": 2, "lost": ()}  # type: ignore[arg-type]
        | {"bytes_down": 30, "bytes_up": 20}
        | more
    )


def test_run_that_waits_has_no_value() -> None:
    state = after()
    assert (state.phase, state.round, state.rounds, state.committed) == ("waiting", 0, 4, 0)
    assert (state.metric, state.value, state.values, state.measured_by) == ("", None, {}, "")
    assert msgspec.json.decode(msgspec.json.encode(state))["value"] is None


def test_value_is_that_of_the_deepest_depth_of_a_device() -> None:
    values = {1: 0.5, 2: 0.75, 3: 0.1}
    metrics = {depth: {"accuracy": value} for depth, value in values.items()}
    state = after(joined("a", 1), joined("b", 2), STARTS, finished(accuracy=values, metrics=metrics))
    assert (state.metric, state.value, state.measured_by) == ("accuracy", 0.75, "central")
    assert state.values == {"1": 0.5, "2": 0.75, "3": 0.1}
    assert (state.bytes_down, state.bytes_up, state.committed) == (30, 20, 1)
    assert (state.started, state.updated) == ("1970-01-01T00:00:01+00:00", "1970-01-01T00:00:09+00:00")


def test_devices_measure_where_there_are_no_central_data() -> None:
    scores = DeviceScores(devices=2, samples=8, mean={"macro_f1": 0.25}, spread={}, worst={})
    state = after(joined("a", 1), finished(on_devices={1: scores}))
    assert (state.metric, state.value, state.measured_by) == ("macro_f1", 0.25, "devices")


def test_devices_are_counted_and_those_that_are_out_named() -> None:
    left = DeviceLeft(time=3.0, device="b")
    unfit = DeviceUnfit(time=3.0, device="c", explanation="needs 3 GB " + "x" * 600)
    state = after(
        joined("a", 1), joined("b", 1), left, unfit, RoundStarted(time=4, round=1, devices=("a",), deadline_seconds=9)
    )
    assert state.devices == DeviceCounts(there=1, training=1, away=1, out=1)
    assert state.out["c"].startswith("unfit: needs 3 GB")
    assert len(state.out["c"]) == len(state.trouble) == 500


def test_nobody_trains_in_a_run_that_is_over() -> None:
    stopped = RunStopped(time=5.0, round=1, reason="signal")
    assert after(joined("a", 1), STARTS).devices.training == 1
    assert after(joined("a", 1), STARTS, stopped).devices == DeviceCounts(there=1, training=0, away=0, out=0)
