"""Splits every classifier of torchvision, and checks every split against the model that it came from.

    python -m benchmarks.classifiers [NAME ...] [--results FILE] [--page docs/models.md]

For each model, one after the other and each in a process of its own:

- ``fedlp plan`` prints depths and costs;
- the features of all prefixes are values that the original computes too, bit for bit, in evaluation and in training
  with the same random numbers (every value that the original computes is noted by its digest, so the check does not
  rely on the code that it checks); so are the logits;
- the submodel of every depth does one step of training, in which all of its weights get a gradient;
- no depth holds more parameters than the whole model.

GoogLeNet and Inception are built with their auxiliary classifiers. Pictures are small (64x64 where the model takes
them), so that this ends; each result is a line in ``--results``, and a later run goes on where an earlier one stopped.
The largest models take 6 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

CLASSES = 10
BATCH = 2

SIDES = {"inception_v3": 299, "maxvit_t": 224, "vit_h_14": 56}
SIDE = 64
_TRIES = 3
_WITH_AUXILIARY = ("googlenet", "inception_v3")
_PAGE_START, _PAGE_END = "<!-- table -->", "<!-- end of table -->"


class Outcome(NamedTuple):
    """What came of one model; shares are of the whole model, in percent.

    Attributes:
        name: of the classifier.
        side: of the picture.
        parameters: of the whole model.
        parameter_shares: per depth.
        mac_shares: per depth.
        head_share: of the largest exit head in front of the classifier.
        seconds: of everything.
        peak_bytes: of the checking process.
        failure: empty if all checks passed.
    """

    name: str
    side: int
    parameters: int = 0
    parameter_shares: tuple[float, ...] = ()
    mac_shares: tuple[float, ...] = ()
    head_share: float = 0.0
    seconds: float = 0.0
    peak_bytes: int = 0
    failure: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="classifiers; all without")
    parser.add_argument("--results", type=Path, default=Path("classifiers.jsonl"), help="finished models, one a line")
    parser.add_argument("--page", type=Path, help="Markdown file whose table is written anew")
    parser.add_argument("--check", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:
        print(json.dumps(check(options.check)))
        return 0
    done = _finished(options.results)
    names = options.names or all_classifiers()
    for name in names:
        if name not in done or done[name].failure:
            done[name] = examine(name)
            with options.results.open("a") as file:
                file.write(json.dumps(done[name]._asdict()) + "\n")
        print(_line(done[name]), flush=True)
    outcomes = [done[name] for name in names]
    passed = sum(not outcome.failure for outcome in outcomes)
    print(f"{passed} of {len(outcomes)} pass")
    if options.page:
        text = options.page.read_text()
        before, after = text.split(_PAGE_START)[0], text.split(_PAGE_END)[1]
        options.page.write_text(before + _PAGE_START + "\n\n" + _table(outcomes) + "\n" + _PAGE_END + after)
    return 0 if passed == len(outcomes) else 1


def examine(name: str) -> Outcome:
    """Plans and checks one classifier in processes of their own."""
    start = time.perf_counter()
    side = SIDES.get(name, SIDE)
    shape = f"3x{side}x{side}"
    command = ["fedlp_edge", "plan", "--model", f"torchvision:{name}", "--input", shape, "--json"]
    plan, problem = _run([*command, "--classes", str(CLASSES)])
    checked, failure = _run(["benchmarks.classifiers", "--check", name]) if plan else (None, problem)
    if plan is None or checked is None:
        return Outcome(name, side, seconds=time.perf_counter() - start, failure=failure)
    rows = plan["depths"]
    return Outcome(
        name,
        side,
        parameters=rows[-1]["parameters"],
        parameter_shares=tuple(100 * row["parameters"] / rows[-1]["parameters"] for row in rows),
        mac_shares=tuple(100 * row["forward_macs"] / rows[-1]["forward_macs"] for row in rows),
        head_share=checked["head_share"],
        seconds=time.perf_counter() - start,
        peak_bytes=checked["peak_bytes"],
    )


def _run(module: list[str]) -> tuple[dict[str, Any] | None, str]:
    """The JSON object that a module prints, or the last line of its complaint."""
    ran = subprocess.run([sys.executable, "-m", *module], capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return json.loads(ran.stdout.strip().splitlines()[-1]), ""
    said = (ran.stderr.strip() or ran.stdout.strip() or f"ended with {ran.returncode}").splitlines()
    return None, said[-1][:500]


def check(name: str) -> dict[str, float]:
    """Compares the split of one classifier with the original; an assertion fails where they differ."""
    import torch  # noqa: PLC0415 -- the parent needs none

    from fedlp_edge import partition  # noqa: PLC0415
    from fedlp_edge.learning.memory.limits import trim_heap  # noqa: PLC0415

    torch.set_num_threads(1)
    side = SIDES.get(name, SIDE)
    model = _build(name, side)
    images = torch.randn(BATCH, 3, side, side, generator=torch.Generator().manual_seed(0))
    layered = partition(model, images[:1])
    for training in (False, True):
        layered.train(training)
        model.train(training)
        # The last bits of a product may depend on where in memory it lies: an unlucky place is no difference.
        difference = ""
        for _ in range(_TRIES):
            difference = _difference(layered, model, images)
            if not difference:
                break
        assert not difference, f"{difference} of the split differ, training={training}"
    whole = sum(p.numel() for p in layered.submodel(layered.depths[-1]).parameters())
    for depth in layered.depths:
        submodel = layered.submodel(depth)
        assert sum(p.numel() for p in submodel.parameters()) <= whole, f"depth {depth} holds more than the whole"
        _train_a_step(submodel, images)
        del submodel
        trim_heap()
    heads = [unit.parameters for unit in layered.head_units[:-1]]
    return {
        "head_share": 100 * max(heads, default=0) / whole,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _difference(layered: Any, model: Any, images: Any) -> str:
    """What the split computes otherwise than the original; empty if nothing."""
    import torch  # noqa: PLC0415

    with _buffers_kept(model):
        values, logits = _values_of(model, images)
    with _buffers_kept(model), torch.no_grad():
        torch.manual_seed(0)
        feature: Any = images
        for depth in layered.depths:
            feature = layered.get_submodule(f"L{depth}")(feature)
            if _digest(feature) not in values:
                return f"features at depth {depth}"
        own = layered.get_submodule(f"H{layered.depths[-1]}")(feature)
    return "" if torch.equal(own, logits) else "the logits"


def all_classifiers() -> list[str]:
    from torchvision import models  # noqa: PLC0415

    names: list[str] = models.list_models(module=models)
    return names


def _build(name: str, side: int) -> Any:
    import torch  # noqa: PLC0415
    from torchvision import models  # noqa: PLC0415

    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = side
    elif name == "maxvit_t":
        options["input_size"] = (side, side)
    elif name in _WITH_AUXILIARY:
        options |= {"aux_logits": True, "init_weights": False}
    torch.manual_seed(0)
    model = models.get_model(name, weights=None, num_classes=CLASSES, **options)
    if name == "googlenet":  # so that auxiliary classifiers draw no random numbers that the last dropout then lacks
        model.aux1.dropout.p = model.aux2.dropout.p = 0.0
    return model


def _values_of(model: Any, images: Any) -> tuple[set[str], Any]:
    """Digests of all tensors that a model computes, and its logits."""
    import torch  # noqa: PLC0415
    from torch.utils._python_dispatch import TorchDispatchMode  # noqa: PLC0415

    seen: set[str] = set()

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for value in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    seen.add(_digest(value))
            return result

    torch.manual_seed(0)
    with torch.no_grad(), Watch():  # type: ignore[no-untyped-call]
        result = model(images)
    return seen, getattr(result, "logits", result)


def _digest(value: Any) -> str:
    return f"{tuple(value.shape)} {hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()}"


@contextmanager
def _buffers_kept(model: Any) -> Iterator[None]:
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    yield
    for buffer, value in before:
        buffer.copy_(value)


def _train_a_step(model: Any, images: Any) -> None:
    """One step of gradient descent, each weight changed as soon as its gradient is there, which needs less memory."""
    import torch  # noqa: PLC0415

    changed: list[int] = []  # not the weights themselves: their hooks would keep them alive for ever

    def descend(parameter: Any) -> None:
        with torch.no_grad():
            parameter.sub_(parameter.grad, alpha=1e-3)
        parameter.grad = None
        changed.append(id(parameter))

    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.register_post_accumulate_grad_hook(descend)
    loss = torch.nn.functional.cross_entropy(model.train()(images), torch.arange(BATCH))
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item()), "the loss is not finite"
    assert len(changed) == len(parameters), "some weights got no gradient"


def _finished(results: Path) -> dict[str, Outcome]:
    if not results.exists():
        return {}
    found = [Outcome(**json.loads(line)) for line in results.read_text().splitlines()]
    return {outcome.name: outcome for outcome in found}


def _line(outcome: Outcome) -> str:
    if outcome.failure:
        return f"{outcome.name:20} {outcome.side:3} FAILS: {outcome.failure}"
    return (
        f"{outcome.name:20} {outcome.side:3} {outcome.parameters:11,} parameters, {len(outcome.mac_shares)} depths, "
        f"{outcome.seconds:.0f} s, {outcome.peak_bytes / 2**30:.1f} GiB"
    )


def _table(outcomes: list[Outcome]) -> str:
    rows = [
        "| model | side | parameters | depths | parameters by depth, % | MACs by depth, % | largest head, % | passes |",
        "|---|--:|--:|--:|---|---|--:|---|",
    ]
    for one in outcomes:
        held, macs = (" ".join(f"{share:.0f}" for share in of) for of in (one.parameter_shares, one.mac_shares))
        rows.append(
            f"| `{one.name}` | {one.side} | {one.parameters:,} | {len(one.mac_shares)} | {held} | {macs} "
            f"| {one.head_share:.2f} | {'yes' if not one.failure else one.failure} |"
        )
    passed = sum(not one.failure for one in outcomes)
    return "\n".join([*rows, "", f"{passed} of {len(outcomes)} pass."]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
