"""Joins many small stages into few layers of similar cost.

A model may have hundreds of cut points, and every depth costs an exit head and an MQTT topic. Stages are joined so
that the layers are as even as possible in multiply-accumulates and in parameters, which are what one more layer costs a
device. Only integers are compared, so that the result is equal on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence


def balanced_weights(macs: Sequence[int], parameters: Sequence[int]) -> list[int]:
    """Returns the cost of each stage: its share of all multiply-accumulates plus its share of all parameters.

    Args:
        macs: Multiply-accumulates of each stage.
        parameters: Number of parameters of each stage.

    Returns:
        One integer per stage: the shares times a common denominator, so that they are exact.
    """
    all_macs, all_parameters = max(sum(macs), 1), max(sum(parameters), 1)
    return [m * all_parameters + p * all_macs for m, p in zip(macs, parameters, strict=True)]


def group(weights: Sequence[int], most: int) -> list[range]:
    """Joins consecutive stages into at most ``most`` groups with the least sum of squared costs.

    Args:
        weights: Cost of each stage, not negative.
        most: Largest number of groups, at least 1.

    Returns:
        The indices of the stages of each group, in order; together they cover all stages. Of equally good results the
        one with the longest last group, then with the longest group before it, and so on.
    """
    count = len(weights)
    if most >= count:
        return [range(i, i + 1) for i in range(count)]
    prefix = [0]
    for weight in weights:
        prefix.append(prefix[-1] + weight)
    # best[i] is the least sum for the first i stages in the present number of groups; cuts[k][i] is the first stage of
    # the last group of these i stages, if there are k + 1 groups.
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
