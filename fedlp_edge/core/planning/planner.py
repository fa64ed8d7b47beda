"""Which depth, encoding and layer-preserving rate a device gets: one pure function.

The deepest prefix wins whose training fits the device's memory and whose round fits the deadline. Each choice
comes with one line that says why not deeper. What costs least is given up first: for memory the speed of training, for
the link digits of the update, then layers of it; then depth.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from fedlp_edge.core.accounting import download_bytes, upload_bytes
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.memory_saving import describe, memory_saving_steps
from fedlp_edge.core.planning.prediction import device_memory, training_seconds, transfer_seconds
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import BroadcastEncoding, Encoding, MemorySaving, TrainingSettings

MIN_AUTO_LPR = 0.1
"""With ``lpr = "auto"``, a link too slow for this rate costs depth instead: rates below it starve layers."""

AUTO_ENCODINGS: tuple[tuple[Encoding, BroadcastEncoding], ...] = (
    ("none", "none"),
    ("fp16", "fp16"),
    ("int8+zstd", "int8+zstd"),
    ("int8+zstd", "int4+zstd"),
)
"""What ``encoding = "auto"`` and ``broadcast = "auto"`` try for the way up and the way down, the most exact first."""

METERED_ENCODING: Encoding = "int8+zstd"
"""What ``"auto"`` goes down to, at the least, for a device whose owner pays for what its link carries."""

_NO_LIMIT = 2**60
"""Memory from which on a device, such as a simulated one without a profile, has as much as it likes."""

SEEN_SECONDS = 0.05
"""Of transfers, from which on an explanation names the link: what is measured over a fast one differs each time, and
does not matter."""


class Plan(msgspec.Struct, frozen=True):
    """What a device is to do.

    Attributes:
        depth: 0 if it cannot bear even depth 1.
        lpr: Layer-preserving rate of every layer.
        explanation: One line for people.
        memory_bytes: Predicted for training.
        seconds: Predicted for a round, transfers included; 0 if the device's speed is unknown.
        encoding: Encoding of its updates.
        broadcast: Encoding in which the model must come for the round to be in time.
        memory_saving: Memory saving of the training.
        ceiling: The deepest depth that experience has not spoken against; 0 if it has against none.
    """

    depth: int
    lpr: float
    explanation: str
    memory_bytes: int
    seconds: float
    encoding: Encoding = "none"
    memory_saving: MemorySaving = MemorySaving()
    ceiling: int = 0
    broadcast: BroadcastEncoding = "none"


def fleet_broadcast(plans: Iterable[Plan], blueprint: Blueprint) -> BroadcastEncoding:
    """Returns the one encoding in which the model comes in time to all of these devices, the most exact such one.

    A later step of ``AUTO_ENCODINGS`` is not smaller for every model: values of one dimension are float32 in integer
    encodings, and half that as ``fp16``. If no encoding is small enough for all, the one that comes nearest is taken.

    Args:
        plans: Plans of the devices.
        blueprint: Blueprint of the model.
    """
    needs = {(known.depth, known.broadcast) for known in plans if known.depth}

    def excess(encoding: BroadcastEncoding) -> float:
        """Bytes in this encoding as a multiple of those in the one that a device needs, of the worst device."""
        return max(
            (_down_bytes(blueprint, d, encoding) / max(1, _down_bytes(blueprint, d, n)) for d, n in needs), default=0
        )

    # The first of several: none is less exact than it need be, however much room a device has.
    return min((broadcast for _, broadcast in AUTO_ENCODINGS), key=lambda encoding: max(1.0, excess(encoding)))


def _down_bytes(blueprint: Blueprint, depth: int, broadcast: BroadcastEncoding) -> int:
    return sum(download_bytes(unit, broadcast) for unit in blueprint.exchanged_by(depth))


def _up_bytes(blueprint: Blueprint, depth: int, encoding: Encoding) -> int:
    return sum(upload_bytes(unit, encoding) for unit in blueprint.exchanged_by(depth))


def plan(facts: DeviceFacts, blueprint: Blueprint, rules: PlanningRules, ceiling: int = 0) -> Plan:
    """Chooses for one device.

    Args:
        facts: Facts of the device's latest report.
        blueprint: Blueprint of the model, with the cost of every depth.
        rules: Rules of the run; ``"auto"`` plans, anything else dictates.
        ceiling: Depth beyond which experience speaks against; 0 for none. It does not bind a dictated depth.

    Returns:
        The plan; ``depth`` 0 with the reason if nothing fits.
    """
    full, dictated, training = blueprint.full_depth, rules.scheme.depth, rules.training
    if dictated == "full" or isinstance(dictated, int):
        depth = full if dictated == "full" else min(dictated, full)
        case = _Case(facts, blueprint, rules, training)
        exchange = case.exchange(depth)
        why = f"depth {depth} of {full} for every device, as configured{case.encodings(depth, exchange)}"
        seconds = case.seconds(depth, exchange)
        if not case.in_time(seconds):
            why += f"; a round takes it {seconds:.0f} s, {rules.planned_seconds:.0f} s are planned: it may be left out"
        return case.plan(depth, exchange, why)
    ways = memory_saving_steps(training, rules.planner.techniques)
    obstacle = ""
    for depth in (full,) if dictated == "only-full" else reversed(blueprint.depths):
        if ceiling and depth > ceiling:
            obstacle = f"depth {ceiling + 1} failed before"
            continue
        obstacles = []
        for way in ways:
            case = _Case(facts, blueprint, rules, msgspec.structs.replace(training, memory=way))
            exchange = case.exchange(depth)
            if found := case.obstacle(depth, exchange):
                obstacles.append(found)
                continue
            return case.plan(depth, exchange, case.explain(depth, exchange, obstacle), ceiling)
        # The last way takes least memory, and the first least time: what stands in the way of either is the reason.
        obstacle = min(obstacles).words
    return Plan(0, 0.0, f"nothing fits: {obstacle}", 0, 0.0)


class _Obstacle(NamedTuple):
    """Why a device cannot train a depth in one way; the smaller, the nearer it came."""

    is_memory: bool
    needed: float
    words: str


class _Exchange(NamedTuple):
    """How a device's model and update travel."""

    encoding: Encoding
    broadcast: BroadcastEncoding
    lpr: float


@dataclass(frozen=True)
class _Case:
    """One device, one run and one way to train; answers questions about a depth."""

    facts: DeviceFacts
    blueprint: Blueprint
    rules: PlanningRules
    training: TrainingSettings

    def memory(self, depth: int) -> int:
        return device_memory(self.blueprint, depth, self.training, self.facts.calibration)

    def plan(self, depth: int, exchange: _Exchange, explanation: str, ceiling: int = 0) -> Plan:
        return Plan(
            depth,
            exchange.lpr,
            explanation,
            self.memory(depth),
            self.seconds(depth, exchange),
            exchange.encoding,
            self.training.memory,
            ceiling,
            exchange.broadcast,
        )

    def obstacle(self, depth: int, exchange: _Exchange) -> _Obstacle | None:
        needed, free = self.memory(depth), self.facts.training_memory
        planned = int(free * (1 - self.rules.planner.memory_margin))
        if needed > planned:
            room = f"{_mb(free)} are free" if needed > free else f"{_mb(planned)} of {_mb(free)} may be planned"
            return _Obstacle(True, needed, f"depth {depth} needs {_mb(needed)} for training, {room}")
        seconds = self.seconds(depth, exchange)
        if not self.in_time(seconds):
            words = f"depth {depth} takes {seconds:.1f} s a round, {self.rules.planned_seconds:.1f} s are planned"
            return _Obstacle(False, seconds, words)
        return None

    def compute_seconds(self, depth: int) -> float:
        return training_seconds(self.blueprint, depth, self.training, self.facts)

    def down_bytes(self, depth: int, broadcast: BroadcastEncoding) -> int:
        """Of the whole submodel."""
        return _down_bytes(self.blueprint, depth, broadcast)

    def up_bytes(self, depth: int, encoding: Encoding) -> int:
        """Of an update of everything."""
        return _up_bytes(self.blueprint, depth, encoding)

    def down_seconds(self, depth: int, broadcast: BroadcastEncoding) -> float:
        """Of the whole submodel."""
        return transfer_seconds(self.blueprint, depth, "none", self.facts.link_bytes_per_second, broadcast)[0]

    def up_seconds(self, depth: int, encoding: Encoding) -> float:
        """Of an update of everything."""
        return transfer_seconds(self.blueprint, depth, encoding, self.facts.link_bytes_per_second)[1]

    def exchange(self, depth: int) -> _Exchange:
        """The first encodings with which everything is in time, or the smallest ones, and the rate that goes with
        them."""
        update, rate = self.rules.update, self.rules.scheme.lpr
        if update.encoding != "auto" and update.broadcast != "auto":
            return self._at_auto_rate(depth, update.encoding, update.broadcast)
        found = _Exchange(
            "none" if update.encoding == "auto" else update.encoding,
            "none" if update.broadcast == "auto" else update.broadcast,
            1.0 if rate == "auto" else rate,
        )
        for up, down in AUTO_ENCODINGS:
            # A step that saves this model no byte, such as integers for values of one dimension, only rounds it.
            if update.encoding == "auto" and self.up_bytes(depth, up) < self.up_bytes(depth, found.encoding):
                found = found._replace(encoding=up)
            if update.broadcast == "auto" and self.down_bytes(depth, down) < self.down_bytes(depth, found.broadcast):
                found = found._replace(broadcast=down)
            # Whoever pays for each byte wants few, however much time there is; the last step would cost the fleet more.
            few = not self.facts.metered or up == METERED_ENCODING
            if few and self.in_time(self.seconds(depth, found)):
                return found
        return self._at_auto_rate(depth, found.encoding, found.broadcast)

    def _at_auto_rate(self, depth: int, encoding: Encoding, broadcast: BroadcastEncoding) -> _Exchange:
        if self.rules.scheme.lpr != "auto":
            return _Exchange(encoding, broadcast, self.rules.scheme.lpr)
        up = self.up_seconds(depth, encoding)
        left = self.rules.planned_seconds - self.compute_seconds(depth) - self.down_seconds(depth, broadcast)
        room = left / up if up else 1.0
        # Written so that a report of an absurd link, whose room is infinite or no number, still gets a rate.
        if not room > MIN_AUTO_LPR:
            return _Exchange(encoding, broadcast, MIN_AUTO_LPR)
        # Steps of 0.05 keep a plan stable against small changes of a measured link.
        return _Exchange(encoding, broadcast, int(min(room, 1.0) * 20) / 20)

    def seconds(self, depth: int, exchange: _Exchange) -> float:
        up = self.up_seconds(depth, exchange.encoding) * exchange.lpr
        return self.compute_seconds(depth) + self.down_seconds(depth, exchange.broadcast) + up

    def in_time(self, seconds: float) -> bool:
        # The tolerance is for rounding alone: a rate chosen to fill the budget must not exceed it by its last bit.
        return seconds <= self.rules.planned_seconds * (1 + 1e-9)

    def explain(self, depth: int, exchange: _Exchange, obstacle: str) -> str:
        free = self.facts.training_memory
        most = f" of {_mb(free)}" if free < _NO_LIMIT else ""
        parts = [f"depth {depth} of {self.blueprint.full_depth}: {_mb(self.memory(depth))}{most} for training"]
        link, seconds = self.facts.link_bytes_per_second, self.seconds(depth, exchange)
        if link and seconds - self.compute_seconds(depth) >= SEEN_SECONDS:
            parts.append(f"link {_rate(link)}")
        if seconds:
            parts.append(f"{seconds:.1f} s a round")
        parts += describe(self.training.memory)
        if exchange.lpr < 1:
            parts.append(f"uploads {exchange.lpr:.0%} of its layers")
        return ", ".join(parts) + self.encodings(depth, exchange) + (f"; {obstacle}" if obstacle else "")

    def encodings(self, depth: int, exchange: _Exchange) -> str:
        """How the update and the model travel, and why, if that was chosen."""
        sends = "" if exchange.encoding == "none" else f", sends {exchange.encoding}"
        # What is dictated is the same for all devices, and no reason for anything in this one's plan.
        planned_down = self.rules.update.broadcast == "auto" and exchange.broadcast != "none"
        planned_up = self.rules.update.encoding == "auto" and exchange.encoding != "none"
        words = sends + (f", needs the model as {exchange.broadcast}" if planned_down else "")
        if not planned_up and not planned_down:
            return words + self._why_exact()
        exact = exchange._replace(
            encoding="none" if planned_up else exchange.encoding,
            broadcast="none" if planned_down else exchange.broadcast,
        )
        seconds, planned = self.seconds(depth, exact), self.rules.planned_seconds
        if self.facts.metered and self.in_time(seconds):
            return f"{words} (its link is metered)"
        return f"{words} (as float32 a round takes {seconds:.1f} s, {planned:.1f} s are planned)"

    def _why_exact(self) -> str:
        """Why nothing is rounded though that could have been chosen, if it is not that there is time for it."""
        chosen = "auto" in (self.rules.update.encoding, self.rules.update.broadcast)
        return " (as float32, since nothing is known of its link)" if chosen and not self._link_known else ""

    @property
    def _link_known(self) -> bool:
        return self.facts.link_bytes_per_second is not None


def _rate(link: float) -> str:
    return f"{link / 1e6:.1f} MB/s" if link >= 1e6 else f"{link / 1e3:.1f} kB/s"


def _mb(nbytes: int) -> str:
    return f"{nbytes / 1e6:.0f} MB" if nbytes >= 10_000_000 else f"{nbytes / 1e6:.1f} MB"
