"""Names layers for people, after the modules of the user's model that they consist of."""

from __future__ import annotations

from collections.abc import Sequence

_Path = tuple[str, ...]


def layer_names(holders: Sequence[Sequence[str]]) -> list[str]:
    """Returns a short, unique name for each layer.

    Args:
        holders: Dotted names of the modules that hold the weights of each layer, in order; at least one per layer.

    Returns:
        The name of a module, such as ``layer1.0``, if the layer consists of this module alone; otherwise the shortest
        unique names of its first and last module, such as ``features.0 .. features.3``.
    """
    paths = [[tuple(name.split(".")) for name in names] for names in holders]
    names = []
    for index, own in enumerate(paths):
        others = [path for other in (*paths[:index], *paths[index + 1 :]) for path in other]
        shared = _common(own)
        if shared and _is_unique(shared, others):
            names.append(".".join(shared))
        else:
            first, last = _shortest(own[0], others), _shortest(own[-1], others)
            names.append(first if first == last else f"{first} .. {last}")
    return names


def _common(paths: Sequence[_Path]) -> _Path:
    shared = paths[0]
    for path in paths[1:]:
        length = 0
        while length < min(len(shared), len(path)) and shared[length] == path[length]:
            length += 1
        shared = shared[:length]
    return shared


def _is_unique(prefix: _Path, others: Sequence[_Path]) -> bool:
    return not any(other[: len(prefix)] == prefix for other in others)


def _shortest(path: _Path, others: Sequence[_Path]) -> str:
    lengths = range(1, len(path))
    return ".".join(next((path[:n] for n in lengths if _is_unique(path[:n], others)), path))
