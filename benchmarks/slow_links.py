"""Fleets over Mosquitto whose one device is behind a slow link: seconds of rounds, and what crossed the link.

Real services and real MQTT in threads, workers that train nothing, and a proxy with a fixed rate in each direction
(``tests/fleets/slow_link.py``), or with ``--namespaces``, as root, links that the kernel shapes
(``fleets/net_namespaces.py``). The links are waited for, not worked on, so all cases run at once. Prints a table in
Markdown; ``--only WORD`` runs the cases whose name has the word in it. With ``--encoding auto
--broadcast auto --deadline 40`` the coordinator chooses how numbers travel over each link, and the table says why.
"""

from __future__ import annotations

import argparse
import logging
import platform
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.fleets.net_namespaces import ShapedLink, apart
from coordinator.config import FleetConfig
from fedlp_edge.core.settings import UpdateSettings
from fedlp_edge.reporting.events import AnyEvent, DeviceJoined
from fedlp_edge.reporting.summary import Summary
from fedlp_edge.transport.brokers.mosquitto import MosquittoBroker
from tests.fleets.network import NetworkFleet, named
from tests.fleets.slow_link import SlowLink
from tests.fleets.standin import blueprint
from tests.fleets.virtual import VirtualFleet

WIDTH, COLUMNS, ROUNDS = 12_000, 120, 2
DEVICE = "dev-0"
DEADLINE_SECONDS = 1200.0
PATIENCE_SECONDS = 1800.0
KBIT = 125.0
MODEL_BYTES = sum(unit.nbytes for unit in blueprint(width=WIDTH, columns=COLUMNS).exchanged_by(2))


def nothing(_link: SlowLink, _over: threading.Event) -> None:
    """It works as it should."""


@dataclass(frozen=True)
class Case:
    """One link.

    Attributes:
        name: for the table, and for ``--only``.
        up: kbit/s to the broker.
        down: kbit/s from it.
        latency: seconds, one way.
        trouble: what happens to it while it is used.
    """

    name: str
    up: float
    down: float
    latency: float = 0.0
    trouble: Callable[[SlowLink, threading.Event], None] = nothing

    @property
    def ideal(self) -> float:
        """Seconds of a round in which the model crosses the link and nothing else does."""
        return MODEL_BYTES / (self.up * KBIT) + MODEL_BYTES / (self.down * KBIT)


def pauses(link: SlowLink, over: threading.Event) -> None:
    """Nothing moves for 20 of 60 seconds."""
    while not over.wait(40):
        link.pause(20)


def cuts(link: SlowLink, over: threading.Event) -> None:
    """The connection is lost every 20 seconds, with all that is on its way."""
    while not over.wait(20):
        link.cut()


CASES = (
    *(Case(f"{rate} kbit/s", rate, rate) for rate in (16, 40, 64, 256, 1000)),
    Case("16 up, 1000 down", 16, 1000),
    Case("1000 up, 16 down", 1000, 16),
    Case("1000 kbit/s, 300 ms each way", 1000, 1000, latency=0.3),
    Case("64 kbit/s, pauses of 20 s", 64, 64, trouble=pauses),
    Case("64 kbit/s, lost every 20 s", 64, 64, trouble=cuts),
)


def shaped(number: int, case: Case, config: FleetConfig, directory: Path) -> str:
    """A line of the table, over a link of the kernel's."""
    with ShapedLink(number, up=case.up, down=case.down) as link, MosquittoBroker(link.host) as broker:
        begin = {DEVICE: link.enter}
        with NetworkFleet(directory, config, {"": broker.url}, width=WIDTH, columns=COLUMNS, begin=begin) as fleet:
            fleet.start_all(1)
            summary = fleet.finish(PATIENCE_SECONDS)
            return line(case, summary, link.carried(), plan_of(config, fleet.events))


def played(case: Case, config: FleetConfig, directory: Path) -> str:
    """A line of the table, over the proxy."""
    over = threading.Event()
    with (
        MosquittoBroker() as broker,
        SlowLink(broker.host, broker.port, up=case.up * KBIT, down=case.down * KBIT, latency=case.latency) as link,
        NetworkFleet(directory, config, {"": broker.url, DEVICE: link.url}, width=WIDTH, columns=COLUMNS) as fleet,
    ):
        threading.Thread(target=case.trouble, args=(link, over), daemon=True).start()
        fleet.start_all(1)
        try:
            summary = fleet.finish(PATIENCE_SECONDS)
        finally:
            over.set()
        return line(case, summary, (link.carried["down"], link.carried["up"]), plan_of(config, fleet.events))


def plan_of(config: FleetConfig, events: list[AnyEvent]) -> str:
    """A column with the reason of the device's first plan, if the coordinator chooses encodings."""
    if "auto" not in (config.update.encoding, config.update.broadcast):
        return ""
    return f" {next(event.explanation for event in events if isinstance(event, DeviceJoined))} |"


def line(case: Case, summary: Summary, carried: tuple[int, int], plan: str) -> str:
    """A line of the table."""
    seconds = sum(record.seconds for record in summary.rounds) / ROUNDS
    repeats = sum(record.traffic["repeat"].bytes for record in summary.rounds)
    lost = sum(device.status != "contributed" for record in summary.rounds for device in record.devices)
    down, up = (nbytes / (ROUNDS * MODEL_BYTES) for nbytes in carried)
    return (
        f"| {case.name} | {case.ideal:.1f} | {seconds:.1f} | {seconds / case.ideal:.2f} | {repeats / 1000:.1f} | "
        f"{down:.2f} | {up:.2f} | {lost} |{plan}"
    )


def main() -> None:
    """Plays all cases at once."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", default="", help="part of the names of the cases to play")
    parser.add_argument("--namespaces", action="store_true", help="links of the kernel instead of a proxy; needs root")
    parser.add_argument("--encoding", default="none", help="[update] encoding")
    parser.add_argument("--broadcast", default="none", help="[update] broadcast")
    parser.add_argument("--deadline", type=float, default=DEADLINE_SECONDS, help="seconds of a round")
    options = parser.parse_args()
    if options.namespaces:
        apart("benchmarks.slow_links")
    logging.disable(logging.CRITICAL)
    plain = [case for case in CASES if not case.latency and case.trouble is nothing]
    chosen = [case for case in (plain if options.namespaces else CASES) if options.only in case.name]
    with tempfile.TemporaryDirectory(prefix="fedlp-slow-") as name:
        config = VirtualFleet(
            Path(name) / "config", devices=1, rounds=ROUNDS, width=WIDTH, deadline_seconds=options.deadline
        ).config
        config = msgspec.structs.replace(
            config,
            scheme=msgspec.structs.replace(config.scheme, depth="full"),
            update=msgspec.convert({"encoding": options.encoding, "broadcast": options.broadcast}, UpdateSettings),
            export=msgspec.structs.replace(config.export, depths="none"),
        )
        with ThreadPoolExecutor(len(chosen)) as pool:

            def play(number: int) -> str:
                case, place, directory = chosen[number], named(config, f"f{number}"), Path(name) / str(number)
                if options.namespaces:
                    return shaped(number, case, place, directory)
                return played(case, place, directory)

            lines = list(pool.map(play, range(len(chosen))))
    chosen_by_link = "auto" in (options.encoding, options.broadcast)
    print(f"{_processor()}; a model of {MODEL_BYTES:,} bytes, {ROUNDS} rounds\n")
    print(
        "| link | bytes / rate, s | a round, s | ratio | repeats, kB | down / model | up / model | lost |"
        + " why |" * chosen_by_link
    )
    print("|---|---|---|---|---|---|---|---|" + "---|" * chosen_by_link)
    print("\n".join(lines))


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
