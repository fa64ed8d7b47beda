"""How long a fleet needs to get over each fault: the figures of docs/reliability.md.

    python -m benchmarks.recovery              both tables, some minutes
    python -m benchmarks.recovery --network    only the one over a real broker

The first table is in virtual time, so it is the same on every machine: the fault strikes at every step, and what is
shown is how much later the run ends than without, restarts included. The second one is in real seconds over Mosquitto:
from the moment of the fault to the next update that the coordinator accepts, and in a run without faults from the
same packet on.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fedlp_edge.reporting.events import UpdateAccepted
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from fedlp_edge.transport.in_memory import InjectedFault
from tests.fleets.network import NetworkFleet, named
from tests.fleets.proxy import FaultyProxy, Rule
from tests.fleets.virtual import RESTART_SECONDS, VirtualFleet

DEVICES, ROUNDS, WIDTH = 2, 2, 20_000
AWAY_SECONDS = 1.0

Strike = Callable[[MosquittoBroker, FaultyProxy], None]


def virtual_table(directory: Path) -> None:
    undisturbed = VirtualFleet(directory / "undisturbed")
    undisturbed.start_all()
    undisturbed.finish()
    turns, base = undisturbed.world.turns, undisturbed.world.now

    def later(name: str, number: int, disturb: Callable[[VirtualFleet], dict[str, int] | None]) -> float:
        fleet = VirtualFleet(directory / name.replace(" ", "-") / str(number))
        fleet.start_all(disturb(fleet))
        fleet.finish()
        return fleet.world.now - base

    def drop(number: int) -> Callable[[VirtualFleet], None]:
        seen = iter(range(1, 1_000_000))
        return lambda fleet: fleet.world.hub.faults.append(InjectedFault(lambda *_: next(seen) == number, "drop"))

    def at_turn(number: int, who: str) -> Callable[[VirtualFleet], None]:
        def disturb(fleet: VirtualFleet) -> None:
            world = fleet.world
            world.at_turn[number] = world.restart_broker if who == "broker" else lambda: world.cut(who, AWAY_SECONDS)

        return disturb

    cases: list[tuple[str, range, Callable[[int], Callable[[VirtualFleet], dict[str, int] | None]]]] = [
        (f"coordinator killed, back after {RESTART_SECONDS:g} s", range(1, len(undisturbed.steps("coordinator")) + 1),
         lambda n: lambda _: {"coordinator": n}),
        (f"device killed, back after {RESTART_SECONDS:g} s", range(1, len(undisturbed.steps("dev-1")) + 1),
         lambda n: lambda _: {"dev-1": n}),
        ("one message lost beyond the broker", range(1, 101), drop),
        (f"broker gone for {AWAY_SECONDS:g} s, forgot everything", range(2, turns, 4), lambda n: at_turn(n, "broker")),
        (f"coordinator without connection for {AWAY_SECONDS:g} s", range(2, turns, 4),
         lambda n: at_turn(n, "coordinator")),
        (f"device without connection for {AWAY_SECONDS:g} s", range(2, turns, 4), lambda n: at_turn(n, "dev-1")),
    ]  # fmt: skip
    print(f"virtual time; the run without faults takes {base:.1f} s\n")
    print(f"{'fault':<52} {'moments':>8} {'median s':>9} {'worst s':>8}")
    for name, numbers, disturb in cases:
        lost = [later(name, number, disturb(number)) for number in numbers]
        print(f"{name:<52} {len(lost):>8} {statistics.median(lost):>9.1f} {max(lost):>8.1f}", flush=True)


def restart(broker: MosquittoBroker, _: FaultyProxy) -> None:
    broker.kill()
    broker.start()


def away(_: MosquittoBroker, proxy: FaultyProxy) -> None:
    proxy.stop()
    threading.Timer(AWAY_SECONDS, proxy.go).start()


def network_table(directory: Path, repeats: int) -> None:
    config = VirtualFleet(directory / "config", devices=DEVICES, rounds=ROUNDS, width=WIDTH).config
    cases: dict[str, Strike] = {
        "nothing happens": lambda *_: None,
        "all connections cut": lambda _, proxy: proxy.cut(),
        "broker killed and started again": restart,
        "network away for 1 s": away,
    }
    print(f"\nreal time, Mosquitto, {repeats} runs each\n\n{'fault in the middle of an upload':<36} {'median s':>9} "
          f"{'worst s':>8}")  # fmt: skip
    for name, strike in cases.items():
        seconds = [network_run(directory / name / str(n), config, strike) for n in range(repeats)]
        print(f"{name:<36} {statistics.median(seconds):>9.2f} {max(seconds):>8.2f}", flush=True)


def network_run(directory: Path, config: object, strike: Strike) -> float:
    """Seconds from the fault to the next accepted update."""
    with (
        MosquittoBroker(extra=["max_packet_size 4000"]) as broker,
        FaultyProxy(broker.host, broker.port) as proxy,
        NetworkFleet(directory, named(config, "f"), {"": proxy.url}, width=WIDTH) as fleet,  # type: ignore[arg-type]
    ):
        struck: list[float] = []

        def then() -> None:
            struck.append(time.time())
            strike(broker, proxy)

        proxy.rules.append(Rule("broker", "note", "/upload/", after=10, then=then))
        fleet.start_all(DEVICES)
        fleet.finish()
        return min(e.time for e in fleet.events if isinstance(e, UpdateAccepted) and e.time > struck[0]) - struck[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--network", action="store_true", help="only the table over a real broker")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="fedlp-recovery-") as directory:
        if not options.network:
            virtual_table(Path(directory) / "virtual")
        network_table(Path(directory) / "network", options.repeats)
    return 0


if __name__ == "__main__":
    sys.exit(main())
