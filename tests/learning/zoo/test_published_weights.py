from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from fedlp_edge.errors import StartWeightsError
from fedlp_edge.learning.zoo.published_weights import fetch_published

pytestmark = pytest.mark.skipif(find_spec("torchvision") is None, reason="torchvision is not installed")

RESNET = "torchvision:resnet18"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def test_says_what_to_do_without_a_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    reason = (
        r"cannot fetch torchvision:resnet18 IMAGENET1K_V1 from https://.*resnet18-f37072fd.pth .*no route.*name the"
    )
    with pytest.raises(StartWeightsError, match=reason):
        fetch_published(RESNET, "torchvision")


def test_does_not_take_damaged_bytes(cache: Path) -> None:
    cache.mkdir()
    (cache / "resnet18-f37072fd.pth").write_bytes(b"half a file")
    with pytest.raises(StartWeightsError, match="is damaged: delete it"):
        fetch_published(RESNET, "torchvision")


@pytest.mark.parametrize(
    ("model", "source", "reason"),
    [
        ("small-cnn", "torchvision", "publishes no weights of small-cnn"),
        (RESNET, "torchvision:V9", "no weights V9 of torchvision:resnet18; it has IMAGENET1K_V1"),
        ("torchvision:mnasnet0_5", "torchvision:IMAGENET1K_V2", "it has IMAGENET1K_V1"),
    ],
)
def test_says_which_weights_there_are(cache: Path, model: str, source: str, reason: str) -> None:
    with pytest.raises(StartWeightsError, match=reason):
        fetch_published(model, source)
