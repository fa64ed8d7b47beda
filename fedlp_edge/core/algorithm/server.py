"""Makes the server step, which changes the global model by the averaged delta.

``apply`` takes and returns its state, so that a run is resumed by loading it. The averaged delta is taken as the
negative gradient, as in FedAvgM and FedAdam (Reddi et al., arXiv 2003.00295, algorithm 2, without bias correction).
A tensor that no device sent keeps its value *and* its moments: a missing update is not a zero gradient. Running
statistics, such as BatchNorm variances, are replaced by the mean of their values with every server optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.settings import ServerSettings


def apply(
    settings: ServerSettings,
    state: ServerState,
    weights: Mapping[str, Array],
    means: Mapping[str, Array],
    statistics: frozenset[str],
    silent: Mapping[str, npt.NDArray[np.bool_]] | None = None,
) -> tuple[dict[str, Array], ServerState]:
    """Makes one server step.

    Args:
        settings: Server optimizer and its constants.
        state: State after the last server step; not modified.
        weights: Global tensors by name; not modified.
        means: Averaged delta of each tensor that a device sent, or averaged value of a statistic, by name.
        statistics: Names of the tensors whose means are values.
        silent: Mask of the elements that no device sent, for tensors that were sent in part, by name (see
            ``LayerwiseMean.unsent``); None if there are none.

    Returns:
        New weights, in which unsent tensors are the objects in ``weights``, and a new state with new moments.
    """
    new_weights, moments = dict(weights), _Moments(dict(state.first_moments), dict(state.second_moments))
    for name, mean in means.items():
        if name in statistics:
            new_weights[name] = np.array(mean, dtype=np.float32)
        else:
            new_weights[name] = _array(weights[name] + _step(settings, moments, name, mean))
    for name, mask in (silent or {}).items():
        new_weights[name][mask] = weights[name][mask]
        for new, old in ((moments.first, state.first_moments), (moments.second, state.second_moments)):
            if name in new:
                new[name][mask] = old[name][mask] if name in old else 0
    return new_weights, replace(state, first_moments=moments.first, second_moments=moments.second)


@dataclass
class _Moments:
    """The moments that a step is writing, by parameter."""

    first: dict[str, Array]
    second: dict[str, Array]


def _step(settings: ServerSettings, moments: _Moments, name: str, mean: Array) -> Array:
    """The change of one parameter; writes its new moments."""
    lr = np.float32(settings.lr)
    if settings.optimizer == "plain":
        return mean if settings.lr == 1.0 else _array(lr * mean)
    first = moments.first.get(name, np.zeros_like(mean))
    if settings.optimizer == "momentum":
        first = moments.first[name] = _array(np.float32(settings.momentum) * first + mean)
        return _array(lr * first)
    beta1, beta2 = np.float32(settings.beta1), np.float32(settings.beta2)
    second = moments.second.get(name, np.zeros_like(mean))
    first = moments.first[name] = _array(beta1 * first + (1 - beta1) * mean)
    second = moments.second[name] = _array(beta2 * second + (1 - beta2) * mean * mean)
    return _array(lr * first / (np.sqrt(second) + np.float32(settings.epsilon)))


def _array(value: npt.ArrayLike) -> Array:
    """``value`` as an array: arithmetic turns arrays without dimensions into bare numbers."""
    return np.asarray(value, dtype=np.float32)
