"""Fetches the weights that torchvision publishes for its classifiers, once, into torch's own cache."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch

from fedlp_edge.core.start_weights import TORCHVISION
from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.start_weights_file import file_digest


def fetch_published(model: str, source: str) -> Path:
    """Returns the file of published weights, which is downloaded unless torch's cache has it.

    Args:
        model: Name of the model, ``torchvision:NAME``.
        source: ``torchvision`` for the weights that torchvision recommends, or ``torchvision:IMAGENET1K_V1``.

    Raises:
        StartWeightsError: The model is none of torchvision's, there are no such weights, or they cannot be fetched.
    """
    url, name = _published_url(model, source)
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise StartWeightsError(
                f"cannot fetch {name} from {url} ({error}): fetch it where there is a network, and name the file"
            ) from None
    # The beginning of the digest stands in the name of the file: resnet18-f37072fd.pth.
    if not file_digest(path).startswith(path.stem.rpartition("-")[2]):
        raise StartWeightsError(f"{path} is damaged: delete it, and it is fetched again")
    return path


def _published_url(model: str, source: str) -> tuple[str, str]:
    """Returns the address of the file, and the name of the weights for people."""
    if not model.startswith(f"{TORCHVISION}:"):
        raise StartWeightsError(f"torchvision publishes no weights of {model}, but of models torchvision:NAME")
    from torchvision import models  # noqa: PLC0415  # takes 150 MB that other models do not need

    known = {weights.name: weights for weights in models.get_model_weights(model.removeprefix(f"{TORCHVISION}:"))}
    wanted = source.partition(":")[2] or "DEFAULT"
    if not known:
        raise StartWeightsError(f"torchvision publishes no weights of {model}")
    if wanted == "DEFAULT":
        wanted = type(next(iter(known.values()))).DEFAULT.name
    if wanted not in known:
        raise StartWeightsError(f"torchvision has no weights {wanted} of {model}; it has {', '.join(known)}")
    return str(known[wanted].url), f"{model} {wanted}"
