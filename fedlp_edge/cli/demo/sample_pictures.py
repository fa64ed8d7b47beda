"""This module writes a few held-out pictures beside the exported models, for a first inference by one copied line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedlp_edge.learning.data.readers.listing import Samples
from fedlp_edge.learning.data.sources import read
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.system.lifecycle import own_command
from fedlp_edge.system.portable.shell_words import quoted_command

_PICTURES = 3


def classify_samples(data: str, models: Sequence[Path], directory: Path) -> list[str]:
    """Writes pictures of the test split and runs every model on them.

    Args:
        data: Specification of grey images, as the demo's data sets are.
        models: ONNX files, the deepest last; its answers are shown.
        directory: Directory in which the pictures are written.

    Returns:
        Lines for people: what the deepest model says, and the command that says it.

    Raises:
        FedLPError: A model does not load or run.
    """
    pictures = write_pictures(read(parse_spec(data), "test"), directory)
    for model in models:
        classifier = Classifier(model, threads=1)
        answers = [classifier.predict(picture) for picture in pictures]
    said = ", ".join(
        f"{Path(answer.file).name}: {answer.label} ({100 * (answer.probability or 0):.0f} %)" for answer in answers
    )
    command = f"{own_command()} {quoted_command(['infer', str(models[-1]), str(pictures[0])])}"
    return [
        f"All {len(models)} ONNX files run in onnxruntime; the deepest says of held-out pictures: {said}",
        f"Try it: {command}",
    ]


def write_pictures(samples: Samples, directory: Path) -> list[Path]:
    """Saves the first sample of each of the first classes as ``CLASS.png``.

    Args:
        samples: X [N, 1, H, W].
        directory: Made if missing.
    """
    from PIL import Image  # noqa: PLC0415  # an extra

    directory.mkdir(exist_ok=True)
    paths = []
    for label in np.unique(samples.y)[:_PICTURES]:
        picture = samples.array[int(np.argmax(samples.y == label)), 0]
        pixels = np.clip(np.rint(picture * samples.scale * 255), 0, 255).astype(np.uint8)
        name = samples.classes[int(label)].replace("/", "-")
        path = directory / f"{name}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths
