"""What the encodings of updates cost and save: accuracy and bytes of whole fleets, speed on one core.

    python -m benchmarks.compression fleets --data digits --seeds 1 2
    python -m benchmarks.compression speed

``fleets`` runs ``fedlp demo`` once per encoding and seed: real processes, real messages, the same devices and shares.
``speed`` encodes and decodes an update of ResNet-18's size. Both print one JSON line per measurement.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.settings import UPDATE_ENCODINGS, Encoding
from fedlp_edge.reporting.summary import load
from fedlp_edge.wire.admission import Admission, Expectation
from fedlp_edge.wire.compression import encode_unit
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Offer, UnitPayload

ENCODINGS: tuple[Encoding, ...] = UPDATE_ENCODINGS
REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    fleets = commands.add_parser("fleets", help="accuracy and bytes of demo fleets")
    fleets.add_argument("--data", nargs="+", default=["digits", "fashion-mnist"])
    fleets.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    fleets.add_argument("--encodings", nargs="+", choices=ENCODINGS, default=list(ENCODINGS))
    fleets.add_argument("--devices", type=int, default=4)
    fleets.add_argument("--rounds", type=int, default=10)
    fleets.set_defaults(measure=measure_fleets)
    speed = commands.add_parser("speed", help="megabytes of float32 deltas a second of one core")
    speed.add_argument("--parameters", type=int, default=11_173_962)
    speed.set_defaults(measure=measure_speed)
    arguments = parser.parse_args()
    for line in arguments.measure(arguments):
        print(json.dumps(line), flush=True)


def measure_fleets(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """One fleet per data set, encoding and seed; the encodings of a seed run one after the other."""
    for data in arguments.data:
        for seed in arguments.seeds:
            for encoding in arguments.encodings:
                yield _fleet(data, seed, encoding, arguments.devices, arguments.rounds)


def _fleet(data: str, seed: int, encoding: Encoding, devices: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "run"
        options = {
            "data": data, "seed": seed, "encoding": encoding, "devices": devices, "rounds": rounds, "out": out
        }  # fmt: skip
        flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        command = [sys.executable, "-m", "fedlp_edge", "demo", *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        summary = load(out / "summary.json")
    if summary.final is None:
        raise SystemExit(f"the fleet did not finish: {' '.join(command)}")
    contributed = [d for r in summary.rounds for d in r.devices if d.status == "contributed"]
    accuracy = summary.final.accuracy
    return {
        "data": data,
        "seed": seed,
        "encoding": encoding,
        "accuracy_full": accuracy[max(accuracy)],
        "accuracy_mean_of_exits": statistics.fmean(accuracy.values()),
        "update_bytes": sum(d.bytes_up for d in contributed),
        "bytes_per_parameter": sum(d.bytes_up for d in contributed) / sum(d.params_up for d in contributed),
        "updates": len(contributed),
        "model_digest": summary.final.model_digest[:16],
    }


def measure_speed(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Encoding as a device does it; decoding as admission does it, digest and checks of the values included."""
    tensors = tuple(TensorSpec(f"a.{i}", (size,), "trained") for i, size in enumerate(_sizes(arguments.parameters)))
    blueprint = Blueprint(
        "speed", (1,), 2, "shared", (Unit("L1", "a", "layer", 1, tensors),), (DepthCost(1, arguments.parameters, 1, 1),)
    )
    # Tails as real deltas have them: a few elements set the scale of many small ones.
    generator = np.random.default_rng(1)
    deltas = {t.name: (1e-3 * generator.standard_t(5, t.shape)).astype(np.float32) for t in tensors}
    megabytes = 4e-6 * arguments.parameters
    for encoding in ENCODINGS:
        part = encode_unit(tensors, deltas, encoding, seed=1)
        offer = _offer(part)
        expected = Expectation("device", 1, 1, 1, {"L1": blueprint.units[0].state_names}, encoding)
        encode = partial(encode_unit, tensors, deltas, encoding, seed=1)
        admit = partial(Admission("run", blueprint).admit, offer, part, expected)
        yield {
            "encoding": encoding,
            "encode_mb_s": round(megabytes / _seconds(encode)),
            "admit_mb_s": round(megabytes / _seconds(admit)),
        }


def _sizes(parameters: int) -> list[int]:
    """Tensors of 256x256x3x3 elements, and what is left."""
    whole, rest = divmod(parameters, 589_824)
    return [589_824] * whole + ([rest] if rest else [])


def _offer(part: bytes) -> Offer:
    return Offer(
        run="run",
        round=1,
        device="device",
        session="s",
        digest=digest_of(part),
        size=len(part),
        units=(UnitPayload("L1", 0, len(part)),),
        samples=1,
        loss=0.0,
        seconds=0.0,
        bytes_down=0,
    )


def _seconds(work: Callable[[], object]) -> float:
    """Of the processor, in the fastest of several runs: what else the machine does only slows it down."""
    times = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


if __name__ == "__main__":
    main()
