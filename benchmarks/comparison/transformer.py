"""A small transformer, which the comparison on text divides: five blocks, a class token, no dropout.

Its layers are the blocks, the first of them with the table of tokens and positions. Tokens are normalised before
attention and before the linear layers of a block, as in the vision transformers that ReeFL was tried on.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.comparison.text_data import LENGTH, VOCABULARY

WIDTH = 48
"""Numbers of a token."""

BLOCKS = 5
HEADS = 4
RATIO = 2
"""Width of the hidden layer of a block, in widths of a token."""


class Embedding(nn.Module):
    """Looks tokens up, adds positions, and puts a class token in front."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Parameter(torch.empty(LENGTH + 1, WIDTH))
        self.class_token = nn.Parameter(torch.empty(WIDTH))
        for weights in (self.tokens.weight, self.positions, self.class_token):
            nn.init.normal_(weights, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the tokens [B, 33, C] of their numbers [B, 32], which come in floating point as well."""
        tokens = self.tokens(x.long())
        return torch.cat((self.class_token.expand(len(tokens), 1, -1), tokens), dim=1) + self.positions


class Attention(nn.Module):
    """Attention of all tokens to all tokens.

    Args:
        width: Numbers of a token.
        inner: Numbers of a token within, a multiple of ``heads``.
        heads: Heads, each with a part of these numbers.
        scale: Factor of the products of queries and keys; None for one over the root of a head's numbers.
    """

    def __init__(self, width: int, inner: int, heads: int, scale: float | None = None) -> None:
        super().__init__()
        self._heads = heads
        self._scale = scale
        self.inputs = nn.Linear(width, 3 * inner)
        self.output = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """Returns what tokens [B, T, C] gather from each other, [B, T, C]."""
        query, key, value = self.inputs(x).unflatten(2, (3, self._heads, -1)).permute(2, 0, 3, 1, 4)
        gathered = functional.scaled_dot_product_attention(query, key, value, scale=self._scale)
        tokens: Tensor = self.output(gathered.transpose(1, 2).flatten(2))
        return tokens


class Block(nn.Module):
    """A block: attention, then two linear layers for each token, both added to what comes in.

    Args:
        width: Numbers of a token.
        inner: Numbers of a token within the attention.
        heads: Heads of the attention.
        hidden: Numbers of the hidden layer.
        scale: As of `Attention`.
    """

    def __init__(self, width: int, inner: int, heads: int, hidden: int, scale: float | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, inner, heads, scale)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns tokens [B, T, C] for tokens [B, T, C]."""
        x = x + self.attention(self.norm(x))
        tokens: Tensor = x + self.perceptron(x)
        return tokens


class Classifier(nn.Module):
    """The mean of all tokens, normalised, and a linear layer.

    Args:
        classes: Number of logits.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits [B, classes] of tokens [B, T, C]."""
        logits: Tensor = self.linear(self.norm(x).mean(dim=1))
        return logits


def block() -> Block:
    """A fresh block of the network."""
    return Block(WIDTH, WIDTH, HEADS, RATIO * WIDTH)


def build(num_classes: int) -> list[nn.Module]:
    """The network as a list of blocks, of which the last one is the classifier."""
    first = nn.Sequential(OrderedDict([("embedding", Embedding()), ("block", block())]))
    return [first, *(block() for _ in range(BLOCKS - 1)), Classifier(num_classes)]
