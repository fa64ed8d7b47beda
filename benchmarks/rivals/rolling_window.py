"""FedRolex: a narrow device trains a window of channels that rolls on by one every round.

Alam et al., "FedRolex: Model-Heterogeneous Federated Learning with Rolling Sub-Model Extraction", NeurIPS 2022
(arXiv 2212.01548), equation 3: in round j, a device with a share r of the K channels of a layer trains the channels
j, j + 1, ..., j + ceil(r K) - 1, modulo K. HeteroFL, from whose code theirs is made, always takes the leading ones.

Here the channels roll on and the window stays: after every round the server puts the first channel of every layer
behind the last one, in the tensors that make it and in those that read it. That does not change what the model
computes, and what HeteroFL extracts and averages, its leading blocks, then are FedRolex's windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.blueprint import TensorSpec


class RollingModel(GlobalModel):
    """A global model with levels of width, whose channels roll on by one after every round."""

    def step(self, round: int, mean: LayerwiseMean) -> None:
        """Takes the model one round further, as `GlobalModel.step` does, and then rolls its channels."""
        super().step(round, mean)
        places = rolled_places(
            [tensor for unit in self._blueprint.units for tensor in unit.tensors], self._blueprint.input_shape[0]
        )
        self.weights = _rolled(self.weights, places)
        state = self.state
        self.state = replace(
            state,
            first_moments=_rolled(state.first_moments, places),
            second_moments=_rolled(state.second_moments, places),
            averages=_rolled(state.averages, places),
        )


def rolled_places(tensors: Iterable[TensorSpec], channels: int) -> dict[str, tuple[int, ...]]:
    """By how many places each dimension of a tensor rolls when every hidden layer rolls by one channel.

    Args:
        tensors: Tensors of a chain of convolutions, linear layers and norms, from the input on.
        channels: Channels of the input, which do not roll, and neither do the classes.

    Returns:
        By name, places of the first dimensions; behind a flattening a channel has as many places as it had pixels.
    """
    ordered = list(tensors)
    matrices = [tensor for tensor in ordered if len(tensor.shape) > 1]
    places: dict[str, tuple[int, ...]] = {}
    made = 0
    for tensor in ordered:
        if len(tensor.shape) > 1:
            read = 0 if tensor is matrices[0] else tensor.shape[1] // channels
            made = 0 if tensor is matrices[-1] else 1
            places[tensor.name] = (made, read)
            channels = tensor.shape[0]
        else:
            places[tensor.name] = (made,)
    return places


def _rolled(values: Mapping[str, Array], places: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    return {
        name: np.ascontiguousarray(np.roll(value, [-count for count in places[name]], range(len(places[name]))))
        for name, value in values.items()
    }
