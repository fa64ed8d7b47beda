from __future__ import annotations

from pathlib import Path

import numpy as np

from coordinator.fleet.registry import Registry
from coordinator.rounds.broadcast_choice import BroadcastChoice
from coordinator.run_context import RunContext
from coordinator.transfer.flow_limits import FlowLimits
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.planning.adaptation import AdaptivePlanner
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.settings import SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.in_memory import MemoryHub
from fedlp_edge.transport.windowed_publisher import WindowedPublisher
from fedlp_edge.wire.topics import Topics
from tests.coordinator.fleets import NAMES, run_context

AUTO = UpdateSettings(broadcast="auto")


def facts(link: float | None) -> DeviceFacts:
    return DeviceFacts(training_memory=10**9, training_macs_per_second=0.0, samples=10, link_bytes_per_second=link)


class Life:
    """One life of a coordinator."""

    def __init__(self, context: RunContext) -> None:
        self.registry = Registry(AdaptivePlanner(context.blueprint, context.config.planning_rules), context.journal)
        publisher = WindowedPublisher(MemoryHub().transport("coordinator"), 10)
        self.server = ModelServer(
            Topics("fleet"), publisher, 1000, lambda *_: None, FlowLimits(None, 8, 8), lambda: 0.0
        )
        weights = {name: np.ones(2, np.float32) for name in NAMES.values()}
        model = GlobalModel(
            context.blueprint, SchemeSettings(), ServerSettings(), weights, update=context.config.update, seed=1
        )
        self.choice = BroadcastChoice(context, self.registry, model, self.server)
        self.server.put_weights(context.blueprint, weights)


def test_the_slowest_link_decides_once_and_a_restart_keeps_the_choice(tmp_path: Path) -> None:
    where = RunDirectory.open(tmp_path)
    context = run_context(where, Journal.open(where.journal), update=AUTO, scheme=SchemeSettings(depth="full"))
    first = Life(context)
    first.registry.arrive("fast", "s1", facts(1e9))
    first.registry.arrive("slow", "s1", facts(0.01))
    assert first.server.encoding == "none"
    first.choice.settle()
    assert first.server.versions(["L1"])[0].encoding == first.server.encoding == "fp16"
    second = Life(context)
    assert second.server.versions(["L1"]) == first.server.versions(["L1"])
    second.registry.arrive("another", "s1", facts(1e9))
    second.choice.settle()
    assert second.server.encoding == "fp16"


def test_nothing_is_rounded_for_links_that_bear_float32(tmp_path: Path) -> None:
    where = RunDirectory.open(tmp_path)
    life = Life(run_context(where, Journal.open(where.journal), update=AUTO, scheme=SchemeSettings(depth="full")))
    life.registry.arrive("fast", "s1", facts(1e9))
    life.registry.arrive("unknown", "s1", facts(None))
    life.choice.settle()
    # A device that comes later does not change how the model travels.
    life.registry.arrive("slow", "s1", facts(0.01))
    life.choice.settle()
    assert life.server.versions(["L1"])[0].encoding == "none"


def test_who_has_left_does_not_decide(tmp_path: Path) -> None:
    where = RunDirectory.open(tmp_path)
    context = run_context(where, Journal.open(where.journal), update=AUTO, scheme=SchemeSettings(depth="full"))
    first = Life(context)
    first.registry.arrive("slow", "s1", facts(0.01))
    second = Life(context)  # which knows the plan of the slow device from the journal
    second.registry.arrive("slow-too", "s1", facts(0.01))
    second.registry.leave("slow-too", "s1")
    second.registry.arrive("fast", "s1", facts(1e9))
    second.choice.settle()
    assert second.server.encoding == "none"
