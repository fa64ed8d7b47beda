"""This module measures how long an ONNX file takes for one sample in onnxruntime, and how much memory.

Each file is measured in a process of its own, so that its memory is its own, and a file that crashes native code costs
only its own row. Neither PyTorch nor ONNX is needed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import psutil

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.pictures.picture_decoding import display_name
from fedlp_edge.learning.export.external.weights_file import bytes_of_model, check_weights
from fedlp_edge.learning.export.metadata import EXIT
from fedlp_edge.learning.export.runtime_errors import runtime_reason

PERCENTILES = (50, 90, 99)
_WARM_UP = 10  # runs before the first that counts: allocations, and the first touch of the weights
_MIN_RUNS = 20
_MAX_RUNS = 10_000
_CHUNK = 64  # samples made at a time


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """The measured cost of one file, batch 1.

    Attributes:
        file: Path as it was given.
        milliseconds: Time of one run by percentile (50, 90, 99).
        mean_milliseconds: Mean time of one run, which is what counts for a file with early exits.
        runs: Number of runs.
        memory: Bytes that the process grew by, with the model loaded and run.
        size: Bytes of the file, its file of weights included.
        load_milliseconds: Time to load the file.
        threads: Number of onnxruntime's threads; 0 for its default.
        exits: Share of the runs that stopped at each depth; empty for a file with one exit.
        cpu_milliseconds: Processor time of one run, of all threads together, those that wait for the next run
            included; more threads shorten the time that passes and seldom this one.
    """

    file: str
    milliseconds: dict[int, float]
    mean_milliseconds: float
    runs: int
    memory: int
    size: int
    load_milliseconds: float
    threads: int
    exits: dict[int, float] = {}
    cpu_milliseconds: float = 0.0


def measure(path: Path, *, threads: int = 0, seconds: float = 2.0, samples: npt.NDArray[Any] | None = None) -> Latency:
    """Measures one file.

    Args:
        path: ONNX file with one input and a batch dimension that takes 1.
        threads: Number of onnxruntime's threads; 0 for its default.
        seconds: Time to measure for.
        samples: Samples as the graph takes them, [N, ...], run in turn; random ones by default, with which the exits
            of a file with early exits are not those of real samples.

    Raises:
        ExportError: The file cannot be measured; one line says why.
    """
    with tempfile.TemporaryDirectory(prefix="fedlp-bench-") as directory:
        stored = ""
        if samples is not None:
            stored = str(Path(directory) / "samples.npy")
            np.save(stored, samples)
        arguments = [str(path.absolute()), str(threads), str(seconds), stored]
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fedlp_edge.learning.export.latency", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        answer = msgspec.json.decode(done.stdout, type=_Answer)
    except msgspec.DecodeError:
        raise ExportError(f"{display_name(path)}: onnxruntime crashed on it (exit code {done.returncode})") from None
    if answer.latency is None:
        raise ExportError(f"{display_name(path)}: {answer.error}")
    return msgspec.structs.replace(answer.latency, file=str(path))


class _Answer(msgspec.Struct, omit_defaults=True):
    """What the measuring process prints: a latency, or why there is none."""

    latency: Latency | None = None
    error: str = ""


def _measured(path: str, threads: int, seconds: float, samples: npt.NDArray[Any] | None) -> Latency:
    import onnxruntime  # noqa: PLC0415  # an extra; not needed by who only starts the process

    check_weights(Path(path))
    me = psutil.Process()
    before = me.memory_info().rss
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    begun = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    loaded = time.perf_counter() - begun
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    drawn = _random_samples(given) if samples is None else samples
    try:
        times, depths, cpu = _timed(session, given.name, names, drawn, seconds)
    except Exception:  # onnxruntime's exceptions share no base of their own
        if samples is not None:
            raise
        # The graph looks some of its input up in a table, as token ids are; 0 and 1 are in every table.
        times, depths, cpu = _timed(session, given.name, names, (drawn > 0).astype(drawn.dtype), seconds)
    values, counts = np.unique(depths, return_counts=True)
    return Latency(
        file=path,
        milliseconds={share: 1000 * float(np.percentile(times, share)) for share in PERCENTILES},
        mean_milliseconds=1000 * float(np.mean(times)),
        runs=len(times),
        memory=max(0, me.memory_info().rss - before),
        size=bytes_of_model(Path(path)),
        load_milliseconds=1000 * loaded,
        threads=threads,
        exits={int(depth): int(count) / len(depths) for depth, count in zip(values, counts, strict=True)},
        cpu_milliseconds=1000 * cpu / len(times),
    )


_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
}


def _timed(
    session: Any, given: str, names: Sequence[str], samples: npt.NDArray[Any], seconds: float
) -> tuple[list[float], list[int], float]:
    """Returns the seconds of each run, the exits at which samples stopped, and the processor time of all runs."""
    times: list[float] = []
    depths: list[int] = []
    until = time.perf_counter() + seconds
    number = 0
    cpu_begun = time.process_time()
    while len(times) < _MIN_RUNS or (time.perf_counter() < until and len(times) < _MAX_RUNS):
        sample = np.ascontiguousarray(samples[number % len(samples)][None])
        begun = time.perf_counter()
        outputs = session.run(None, {given: sample})
        taken = time.perf_counter() - begun
        number += 1
        if number <= _WARM_UP:
            cpu_begun = time.process_time()
            continue
        times.append(taken)
        if EXIT in names:
            depths.append(int(outputs[names.index(EXIT)][0]))
    return times, depths, time.process_time() - cpu_begun


def _random_samples(given: Any) -> npt.NDArray[Any]:
    """Returns seeded samples of the shape and type that a graph's input has."""
    if given.type not in _TYPES:
        raise ExportError(f"its input is a {given.type}, of which no samples can be made; give some with --samples")
    if any(not isinstance(size, int) for size in given.shape[1:]):
        raise ExportError(f"its input has no fixed shape ({given.shape}); give samples of one shape with --samples")
    random = np.random.default_rng(0)
    shape = (_CHUNK, *given.shape[1:])
    kind = _TYPES[given.type]
    if np.issubdtype(kind, np.integer):
        return random.integers(0, 256 if kind is np.uint8 else 100, shape).astype(kind)
    return random.standard_normal(shape).astype(kind)


def measure_all(
    paths: Sequence[Path], *, threads: int = 0, seconds: float = 2.0, samples: npt.NDArray[Any] | None = None
) -> list[Latency | ExportError]:
    """Measures files one after the other; a file that cannot be measured gives its error."""
    results: list[Latency | ExportError] = []
    for path in paths:
        try:
            results.append(measure(path, threads=threads, seconds=seconds, samples=samples))
        except ExportError as error:
            results.append(error)
    return results


def _main(path: str, threads: str, seconds: str, stored: str) -> None:
    try:
        samples = np.load(stored, allow_pickle=False) if stored else None
        answer = _Answer(latency=_measured(path, int(threads), float(seconds), samples))
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        answer = _Answer(error=runtime_reason(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    _main(*sys.argv[1:])
