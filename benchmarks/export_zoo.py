"""Exports every classifier of torchvision at its first, a middle and its last depth, and counts what came of it.

    python -m benchmarks.export_zoo [NAME ...] [--precision fp32 ...] [--results FILE]

Each model is exported in a process of its own, with one thread; each file is compared with PyTorch on random pictures.
Weights are random, so nothing is said about accuracy. Each result is a line in ``--results``, and a later run goes on
where an earlier one stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.classifiers import CLASSES, SIDE, SIDES, all_classifiers

SAMPLES = 8


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="classifiers of torchvision; all by default")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "fp16", "int8"])
    parser.add_argument("--results", type=Path, help="file that results are added to")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(export_one(options.one, options.precision)))
        return 0
    results = {}
    if options.results is not None and options.results.exists():
        results = {line["name"]: line for line in map(json.loads, options.results.read_text().splitlines())}
    names = options.names or all_classifiers()
    for name in names:
        if name not in results:
            results[name] = in_own_process(name, options.precision)
            print(f"{name}: {results[name]['problem'] or 'exported'}, {results[name]['seconds']:.0f} s", flush=True)
            if options.results is not None:
                with options.results.open("a") as file:
                    file.write(json.dumps(results[name]) + "\n")
    failed = [results[name] for name in names if results[name]["problem"]]
    print(f"{len(names) - len(failed)} of {len(names)} classifiers exported at the first, a middle and the last depth")
    for result in failed:
        print(f"{result['name']}: {result['problem']}")
    return 1 if failed else 0


def in_own_process(name: str, precisions: list[str]) -> dict[str, object]:
    begun = time.time()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.export_zoo", "--one", name, "--precision", *precisions],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    error = done.stderr.strip().splitlines()
    problem = json.loads(lines[-1]) if done.returncode == 0 and lines else (error[-1] if error else "it crashed")
    return {"name": name, "problem": problem, "seconds": time.time() - begun}


def export_one(name: str, precisions: list[str]) -> str:
    """Returns why some file of a classifier was not written; empty if all were."""
    import torch  # noqa: PLC0415  # the parent has no need of it

    from fedlp_edge.core.settings import ModelSettings  # noqa: PLC0415
    from fedlp_edge.learning.data.dataset import Dataset  # noqa: PLC0415
    from fedlp_edge.learning.export.family.model_family import FamilyOptions, ModelFamily  # noqa: PLC0415
    from fedlp_edge.learning.export.family.multi_exit_graph import exits_of  # noqa: PLC0415
    from fedlp_edge.learning.tasks.base import LearningTask  # noqa: PLC0415
    from fedlp_edge.learning.tasks.classification import Classification  # noqa: PLC0415
    from fedlp_edge.learning.zoo.build import build_model  # noqa: PLC0415

    torch.set_num_threads(1)
    side = SIDES.get(name, SIDE)
    model = build_model(ModelSettings(name=f"torchvision:{name}", input=(3, side, side), classes=CLASSES), 0)
    # torchvision starts heads and biases of some models at zero, with which all answers would be the same.
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if not weight.any():
                weight.normal_(std=0.02)
    last = model.depths[-1]
    depths = tuple(sorted({1, (last + 1) // 2, last}))
    pictures = torch.randint(0, 256, (SAMPLES, 3, side, side), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(SAMPLES) % CLASSES
    data = Dataset.of_tensor(pictures.to(torch.uint8), labels, (), 1 / 255, (0.5,), (0.25,))
    tasks: dict[int, LearningTask] = {depth: Classification(CLASSES) for depth in depths}
    with tempfile.TemporaryDirectory(prefix="fedlp-zoo-") as directory:
        options = FamilyOptions(name=name, precisions=tuple(precisions), labelled=False)  # type: ignore[arg-type]
        written = ModelFamily(exits_of(model, depths), tasks, data, data, Path(directory), options).write()
    return "; ".join(f"depth {refused.depth}, {refused.precision}: {refused.reason}" for refused in written.refused)


if __name__ == "__main__":
    sys.exit(main())
