"""What error feedback on the devices is worth, with few levels.

    python -m benchmarks.error_feedback --rounds 40 --seeds 1 2

The fleet is that of ``benchmarks.broadcast``, with the model as float32 on its way down. One JSON object a line; with
``--results FILE`` a run that was stopped goes on with the first figure that the file lacks.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.broadcast import measured, print_once
from benchmarks.results.cells import CellStore
from fedlp_edge.core.settings import Encoding, UpdateSettings
from fedlp_edge.simulation import local_engine
from fedlp_edge.simulation.engines.base import Engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--encodings", nargs="+", default=["none", "int4+zstd", "int2+zstd"])
    parser.add_argument("--model", default="small-cnn", help="a built-in model of five depths")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--input", nargs="+", type=int, default=[1, 8, 8])
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--limit", type=int, default=0, help="samples of each device; 0 for its whole share")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--results", type=Path, help="file of finished runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, local_engine(arguments.workers) as engine:
        store = CellStore(arguments.results or Path(directory) / "results.jsonl")
        for seed in arguments.seeds:
            for encoding in arguments.encodings:
                for feedback in (False,) if encoding == "none" else (False, True):
                    cell = f"{seed} {encoding} {'feedback' if feedback else 'alone'}"
                    print_once(store, cell, partial(_cell, arguments, seed, encoding, feedback, engine))


def _cell(
    arguments: argparse.Namespace, seed: int, encoding: Encoding, feedback: bool, engine: Engine
) -> dict[str, object]:
    found = measured(arguments, seed, UpdateSettings(encoding=encoding, error_feedback=feedback), engine)
    return {"encoding": encoding, "error_feedback": feedback, **found}


if __name__ == "__main__":
    main()
