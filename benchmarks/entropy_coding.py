"""What an entropy coder saves over Zstandard on the levels of an update, and what it takes.

    pip install constriction
    python -m benchmarks.entropy_coding --seeds 1 2

The deltas are those of one device with a quarter of the digits (``small-cnn``), in its first and in its tenth epoch.
For each tensor, ``entropy`` is what no coder of single levels can go below; the range coder of constriction is adaptive
by tensor: the counts of the levels travel with it, two bytes each. Processor time is of all levels, the least of three.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import constriction  # type: ignore[import-not-found]  # only this benchmark needs it
import numpy as np
import numpy.typing as npt
import zstandard

from fedlp_edge.core.accounting import level_packing
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import Encoding, ModelSettings, SchemeSettings, TrainingSettings
from fedlp_edge.simulation.experiment import Experiment, FleetSettings, SimulatedData
from fedlp_edge.simulation.run import simulate
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.wire.compression import compress, encode_unit, stored_shape, unpacked
from fedlp_edge.wire.tensors import read_header, view_any

ENCODINGS: tuple[Encoding, ...] = (
    "int8+zstd",
    "levels:31+zstd",
    "int4+zstd",
    "levels:7+zstd",
    "levels:5+zstd",
    "int2+zstd",
    "levels:3+zstd",
)
Levels = npt.NDArray[np.int8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", nargs="+", type=int, default=[1, 10])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for round, deltas in _deltas(seed, arguments.rounds).items():
            for encoding in ENCODINGS:
                print(json.dumps({"seed": seed, "round": round, **measured(deltas, encoding)}), flush=True)


def _deltas(seed: int, rounds: list[int]) -> dict[int, dict[str, npt.NDArray[np.float32]]]:
    """Returns the changes of one device's rounds, which are those between checkpoints."""
    experiment = Experiment(
        seed=seed,
        model=ModelSettings(name="small-cnn", input=(1, 8, 8), classes=10),
        data=SimulatedData(train="digits", evaluate="digits", partition="iid", limit=360),
        training=TrainingSettings(compute="float32"),
        scheme=SchemeSettings(depth="full"),
        rounds=RoundSettings(count=max(rounds)),
        fleet=FleetSettings(devices=1),
    )
    with tempfile.TemporaryDirectory() as directory:
        simulate(experiment, directory)
        checkpoints = Checkpoints(Path(directory) / "checkpoints")
        found = {}
        for round in rounds:
            before, after = checkpoints.load(round - 1)[0], checkpoints.load(round)[0]
            found[round] = {name: after[name] - before[name] for name in after if np.any(after[name] != before[name])}
        return found


def measured(deltas: dict[str, npt.NDArray[np.float32]], encoding: Encoding) -> dict[str, object]:
    """Compares the coders on the levels of one update."""
    levels = [_levels(name, delta, encoding) for name, delta in deltas.items()]
    count = sum(one.size for one, _ in levels)
    raw = b"".join(stored.tobytes() for _, stored in levels)
    entropy = sum(one.size * _entropy(one) for one, _ in levels) / count
    counted = 8 / level_packing(encoding)[0]
    found: dict[str, object] = {"encoding": encoding, "counted_bits": round(counted, 3), "parameters": count}
    found["entropy_bits"] = round(entropy, 3)
    coders: dict[str, Callable[[], bytes]] = {"as_sent": partial(compress, raw, encoding)}
    coders |= {f"zstd_{level}": partial(zstandard.ZstdCompressor(level=level).compress, raw) for level in (3, 19)}
    for name, coder in coders.items():
        seconds, frame = _timed(coder)
        back, _ = _timed(partial(zstandard.ZstdDecompressor().decompress, frame))
        found[name] = _line(len(frame), count, seconds, back)
    seconds, coded = _timed(lambda: [_range_coded(one) for one, _ in levels])
    back, _ = _timed(lambda: [_range_decoded(one, words) for (one, _), words in zip(levels, coded, strict=True)])
    nbytes = sum(4 * len(words) + 2 * len(np.unique(one)) for (one, _), words in zip(levels, coded, strict=True))
    found["range_coder"] = _line(nbytes, count, seconds, back)
    return found


def _line(nbytes: int, count: int, seconds: float, back: float) -> dict[str, float]:
    return {
        "bits": round(8 * nbytes / count, 3),
        "encode_ms": round(1e3 * seconds, 2),
        "decode_ms": round(1e3 * back, 2),
    }


def _levels(name: str, delta: npt.NDArray[np.float32], encoding: Encoding) -> tuple[Levels, npt.NDArray[Any]]:
    """Returns the levels of a tensor, and how they are stored."""
    spec = TensorSpec(name, delta.shape)
    blob = zstandard.ZstdDecompressor().decompress(encode_unit((spec,), {name: delta}, encoding, seed=1))
    header, body = read_header(blob)
    info = header[name]
    stored = view_any(name, info, body)
    if info.shape != stored_shape(spec, info.dtype, encoding):
        raise SystemExit(f"{name} has no levels")
    return unpacked(stored, spec, encoding).reshape(-1).astype(np.int8), stored


def _entropy(levels: Levels) -> float:
    shares = np.unique(levels, return_counts=True)[1] / levels.size
    return float(-(shares * np.log2(shares)).sum())


def _model(levels: Levels) -> tuple[npt.NDArray[np.int32], Any, npt.NDArray[np.int8]]:
    present, places, counts = np.unique(levels, return_inverse=True, return_counts=True)
    shares = np.append(counts, 0.5) if len(counts) == 1 else counts  # a model needs two symbols
    probabilities = (shares / shares.sum()).astype(np.float32)
    return places.astype(np.int32), constriction.stream.model.Categorical(probabilities, perfect=False), present


def _range_coded(levels: Levels) -> npt.NDArray[np.uint32]:
    places, model, _ = _model(levels)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(places, model)
    words: npt.NDArray[np.uint32] = encoder.get_compressed()
    return words


def _range_decoded(levels: Levels, words: npt.NDArray[np.uint32]) -> Levels:
    _, model, present = _model(levels)
    decoded: Levels = present[constriction.stream.queue.RangeDecoder(words).decode(model, levels.size)]
    if not np.array_equal(decoded, levels):
        raise SystemExit("the range coder does not give back what it was given")
    return decoded


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the least processor seconds of three runs, and what the work gives."""
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        result = work()
        best = min(best, time.process_time() - began)
    return best, result


if __name__ == "__main__":
    main()
