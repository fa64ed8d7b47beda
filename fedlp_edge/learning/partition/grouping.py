"""Joining many small pieces into few layers of similar weight.

A model may offer hundreds of cut points, and every depth costs an exit head and a topic. The pieces are
joined so that the layers are as even as can be in multiply-accumulates and in parameters, because these
are what a device pays for one more layer. Only integers are compared: the same pieces give the same
layers on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence


def balanced_weights(macs: Sequence[int], parameters: Sequence[int]) -> list[int]:
    """The weight of each piece: its share of all multiply-accumulates plus its share of all parameters.

    The shares are brought to one denominator, so the result is exact.
    """
    all_macs, all_parameters = max(sum(macs), 1), max(sum(parameters), 1)
    return [m * all_parameters + p * all_macs for m, p in zip(macs, parameters, strict=True)]


def group(weights: Sequence[int], most: int) -> list[range]:
    """Splits pieces in a row into at most ``most`` runs with the least sum of squared weights.

    Args:
        weights: one per piece, not negative.
        most: at least 1.

    Returns:
        The indices of each run, in order, covering all pieces; of equally good splits the one whose last run
        is the longest, and so on backwards.
    """
    count = len(weights)
    if most >= count:
        return [range(i, i + 1) for i in range(count)]
    prefix = [0]
    for weight in weights:
        prefix.append(prefix[-1] + weight)
    # best[i]: least cost of the first i pieces in the present number of runs; cut[k][i]: where the last run starts.
    best = [prefix[i] ** 2 for i in range(count + 1)]
    cuts = [[0] * (count + 1)]
    for runs in range(2, most + 1):
        following, cut = list(best), [0] * (count + 1)
        for stop in range(runs, count + 1):
            costs = [best[start] + (prefix[stop] - prefix[start]) ** 2 for start in range(runs - 1, stop)]
            following[stop] = min(costs)
            cut[stop] = runs - 1 + costs.index(following[stop])
        best = following
        cuts.append(cut)
    found: list[range] = []
    stop = count
    for cut in reversed(cuts):
        found.append(range(cut[stop], stop))
        stop = cut[stop]
    return found[::-1]
