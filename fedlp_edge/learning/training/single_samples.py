"""This module finds out before the first round that a model cannot be trained on one sample at a time.

A batch norm over vectors, or over maps of a single pixel, has the samples of a batch alone to take a deviation of.
"""

from __future__ import annotations

import torch

from fedlp_edge.errors import ModelError
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.model.module_copies import copied
from fedlp_edge.learning.model.tensor_kinds import keep_frozen
from fedlp_edge.learning.rng import seeded

_TOO_FEW = "Expected more than 1 "
"""Beginning of what torch's norms say where a batch has too few values for them."""


def check_single_samples(model: LayeredModel, batch_size: int) -> None:
    """Checks that a model can be trained on batches of one sample, if that is how it will be trained.

    Args:
        model: Model, of which a copy is run; it is not changed.
        batch_size: Samples per train step.

    Raises:
        ModelError: A batch norm of the model needs more than one sample.
    """
    if batch_size != 1:
        return
    twin = copied(model, [model])
    keep_frozen(twin.train())
    try:
        with seeded(0), torch.no_grad():
            twin.exits(twin.sample)
    except Exception as error:  # other errors of a user's code are not about this, and training names them
        if _TOO_FEW not in str(error):
            return
        raise ModelError(
            f"a batch norm of the model cannot be trained with [training] batch_size = 1 ({error}): take 2 or more, "
            "or another norm, such as nn.GroupNorm"
        ) from None
