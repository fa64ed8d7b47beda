"""MiniLM (Wang et al., arXiv 2002.10957), a BERT with six layers of width 384, in plain PyTorch.

Parameters have the names of the published weights. Only one tensor goes from a layer to the next, so that the network
can be cut between any two: padding travels as rows of zeros instead of a mask beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS, LAYERS, INNER, VOCABULARY, POSITIONS = 384, 12, 6, 1536, 30522, 512
LANGUAGES = 10
EPSILON = 1e-12


class Embeddings(nn.Module):
    """The sum of a token's and a position's embedding, [B, T] to [B, T, 384]; rows of padding are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.position_embeddings = nn.Embedding(POSITIONS, WIDTH)
        self.token_type_embeddings = nn.Embedding(2, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the embedded tokens."""
        tokens = tokens.long()
        positions = self.position_embeddings.weight[: tokens.shape[1]]
        embedded = self.word_embeddings(tokens) + positions + self.token_type_embeddings.weight[0]
        return self.LayerNorm(embedded) * (tokens != 0).unsqueeze(-1)


class SelfAttention(nn.Module):
    """The three projections and the attention between tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)

    def forward(self, hidden: Tensor, present: Tensor) -> Tensor:
        """Returns what each token takes from the tokens that are present, [B, T, 384]."""
        batch, length, _ = hidden.shape
        query, key, value = (
            project(hidden).view(batch, length, HEADS, WIDTH // HEADS).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mask = torch.where(present, 0.0, -1e4).view(batch, 1, 1, length)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).reshape(batch, length, WIDTH)


class Output(nn.Module):
    """A projection that is added to what it came from, and normalised."""

    def __init__(self, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, WIDTH)
        self.LayerNorm = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Returns the sum, normalised, [B, T, 384]."""
        return self.LayerNorm(self.dense(hidden) + before)


class Attention(nn.Module):
    """Self-attention and its output, with the published names."""

    def __init__(self) -> None:
        super().__init__()
        self.self = SelfAttention()
        self.output = Output(WIDTH)


class Intermediate(nn.Module):
    """The first half of the feed-forward part."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(WIDTH, INNER)


class Layer(nn.Module):
    """One layer of the encoder, [B, T, 384] to [B, T, 384]."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.intermediate = Intermediate()
        self.output = Output(INNER)

    def forward(self, hidden: Tensor) -> Tensor:
        """Returns the next layer's input; rows of padding stay zero."""
        present = hidden.abs().sum(-1) > 0
        mixed = self.attention.output(self.attention.self(hidden, present), hidden)
        inner = functional.gelu(self.intermediate.dense(mixed))
        return self.output(inner, mixed) * present.unsqueeze(-1)


class Encoder(nn.Module):
    """All layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer() for _ in range(LAYERS))


class MiniLM(nn.Module):
    """A text classifier: embeddings, six layers, the mean over the tokens, and a linear head.

    Args:
        classes: Number of classes.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = Encoder()
        self.classifier = nn.Linear(WIDTH, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns logits [B, classes] for token ids [B, T]."""
        hidden = self.embeddings(tokens)
        for layer in self.encoder.layer:
            hidden = layer(hidden)
        present = (hidden.abs().sum(-1, keepdim=True) > 0).float().sum(1).clamp(min=1)
        return self.classifier(hidden.sum(1) / present)


def build() -> nn.Module:
    """The model that fleet.toml names."""
    return MiniLM(LANGUAGES)
