"""Splitting the models of two libraries, built from small configurations without the network.

What makes them hard: dictionaries as results, masks, decisions by shapes, checks of values that are left out for
compilers, and layers of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from fedlp_edge import partition
from tests.learning.sample_models import step

TOKENS = torch.randint(5, 90, (1, 10), generator=torch.Generator().manual_seed(0))
IMAGE = torch.zeros(1, 3, 32, 32)
CLASSES = 3
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


class MaskedBert(nn.Module):
    """BERT on token ids alone: where they are 0, they are padding."""

    def __init__(self) -> None:
        import transformers

        super().__init__()
        config = transformers.BertConfig(vocab_size=100, num_labels=CLASSES, initializer_range=0.5, **SIZES)  # type: ignore[call-arg]
        self.bert = transformers.BertForSequenceClassification(config)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.bert(tokens, attention_mask=(tokens != 0).long()).logits


def distilbert() -> nn.Module:
    import transformers

    config = transformers.DistilBertConfig(  # type: ignore[call-arg]
        vocab_size=100, dim=16, n_layers=2, n_heads=2, hidden_dim=32, num_labels=CLASSES
    )
    return transformers.DistilBertForSequenceClassification(config)


def llama() -> nn.Module:
    import transformers

    config = transformers.LlamaConfig(vocab_size=100, pad_token_id=0, num_labels=CLASSES, **SIZES)  # type: ignore[call-arg]
    return transformers.LlamaForSequenceClassification(config)


def vit() -> nn.Module:
    import transformers

    config = transformers.ViTConfig(image_size=32, patch_size=8, num_labels=CLASSES, **SIZES)  # type: ignore[call-arg]
    return transformers.ViTForImageClassification(config)


def resnet() -> nn.Module:
    import transformers

    config = transformers.ResNetConfig(  # type: ignore[call-arg]
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], layer_type="basic", num_labels=CLASSES
    )
    return transformers.ResNetForImageClassification(config)


def timm_vit() -> nn.Module:
    import timm

    return timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=CLASSES, drop_path_rate=0.2
    )


def timm_mobilenet() -> nn.Module:
    import timm

    return timm.create_model("mobilenetv3_small_050", num_classes=CLASSES)


@pytest.mark.parametrize(
    ("make", "example", "depths"),
    [
        (MaskedBert, TOKENS, 5),
        (distilbert, TOKENS, 5),
        (llama, TOKENS, 4),
        (vit, IMAGE, 5),
        (resnet, IMAGE, 4),
        (timm_vit, IMAGE, 7),
        (timm_mobilenet, IMAGE, 8),
    ],
)
def test_splits_models_of_libraries(make: Callable[[], nn.Module], example: torch.Tensor, depths: int) -> None:
    torch.manual_seed(0)
    model = make()
    layered = partition(model, example)
    assert len(layered.depths) == depths
    assert layered.original_state_dict().keys() == model.state_dict().keys()
    x = torch.cat([example] * 4) if example.dtype == torch.int64 else torch.randn(4, *example.shape[1:])
    for training in (False, True):
        model.train(training)
        layered.train(training)
        torch.manual_seed(1)
        expected = model(x)
        torch.manual_seed(1)
        assert torch.equal(layered(x), getattr(expected, "logits", expected))
    for depth in layered.depths:
        assert step(layered.submodel(depth), x, torch.tensor([0, 1, 2, 0])) > 0


def test_follows_the_padding_of_a_library_model() -> None:
    torch.manual_seed(0)
    model = MaskedBert().eval()
    layered = partition(model, TOKENS).eval()
    padded = TOKENS.repeat(2, 1)
    padded[1, 6:] = 0
    assert torch.allclose(layered(padded), model(padded), atol=1e-5)
    assert not torch.allclose(layered(padded)[0], layered(padded)[1], atol=1e-4)
