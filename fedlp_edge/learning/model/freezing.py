"""Freezes parts of a layered model that a user names by patterns, so that no training changes them.

A frozen parameter requires no gradient, which is how authors of models freeze them as well: everything that follows
(constants that travel once, costs, planning) looks at nothing else. A batch norm without weights has no parameter to
tell by, so it is marked.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import accumulate

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from fedlp_edge.errors import FreezeError
from fedlp_edge.learning.model.tensor_kinds import mark_frozen

_NAMED = 3
"""Near names in a message."""


def freeze_parts(parts: Mapping[str, nn.Module], classifier: str, patterns: Collection[str]) -> None:
    """Freezes the parameters and batch norms of a layered model that patterns name.

    A pattern with ``*`` and ``?`` is held against the names of modules and parameters of the user's model
    (``layer1``, ``layer1.0.bn1``, ``layer1.0.bn1.weight``), and against ids of units (``L1``, ``H2``), alone or before
    a name (``L1.conv.weight``); ids are looked at for patterns that begin with ``L`` or ``H``. A module that matches is
    frozen with all that is in it. The parts of shallow exit heads, which the user's model does not have, go by ids of
    units alone.

    Args:
        parts: Modules of layers and heads by unit id, such as ``"L3"``; changed in place.
        classifier: Unit id of the head that belongs to the user's model.
        patterns: Patterns, such as ``"stem"`` and ``"layer1.*"``.

    Raises:
        FreezeError: A pattern matches nothing.
    """
    known: dict[str, None] = {}
    matched: set[str] = set()
    for unit_id, module in parts.items():
        original = unit_id.startswith("L") or unit_id == classifier
        for name, found in _freezable(module):
            of_unit = _prefixes(f"{unit_id}.{name}" if name else unit_id)
            of_model = _prefixes(name) if original else []
            known.update(dict.fromkeys((*of_unit, *of_model)))
            # A pattern such as "*.bias" means names of the user's model, and would match all others behind a unit's id.
            fitting = {
                pattern
                for pattern in patterns
                if any(fnmatchcase(one, pattern) for one in (*of_model, *(of_unit if pattern[0] in "LH" else ())))
            }
            matched |= fitting
            if fitting and isinstance(found, nn.Parameter):
                found.requires_grad_(False)
            elif fitting and isinstance(found, nn.Module):
                mark_frozen(found)
    for pattern in patterns:
        if pattern not in matched:
            raise FreezeError(f"no module or parameter of the model matches {pattern!r}; {_near(pattern, known)}")


def check_trainable(parts: Mapping[str, nn.Module], depths: range, *, all_exits: bool) -> None:
    """Checks that every depth has something left to train.

    Args:
        parts: Modules of layers and heads by unit id.
        depths: All depths.
        all_exits: Whether a depth also holds the heads of all shallower depths.

    Raises:
        FreezeError: A depth has no trained parameter.
    """
    for depth in depths:
        numbers = range(1, depth + 1)
        held = [f"L{number}" for number in numbers] + [f"H{number}" for number in (numbers if all_exits else (depth,))]
        if not any(parameter.requires_grad for unit_id in held for parameter in parts[unit_id].parameters()):
            whose = "the whole model" if depth == depths[-1] else f"depth {depth}"
            raise FreezeError(f"with {whose} frozen, a device of depth {depth} has nothing to train; freeze less")


def _freezable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter | nn.Module]]:
    """Yields the parameters of a module, also those with two names, and its batch norms without weights."""
    yield from module.named_parameters(remove_duplicate=False)
    for name, part in module.named_modules():
        if isinstance(part, _NormBase) and not any(True for _ in part.parameters(recurse=False)):
            yield name, part


def _prefixes(name: str) -> list[str]:
    """Returns a name and the names of the modules that it lies in, outermost first."""
    return list(accumulate(name.split("."), lambda path, part: f"{path}.{part}")) if name else []


def _near(pattern: str, known: Collection[str]) -> str:
    wanted = pattern.strip("*?.")
    near = difflib.get_close_matches(wanted, known, n=_NAMED, cutoff=0.5)
    if near:
        return f"near: {', '.join(near)}"
    outermost = list(dict.fromkeys(name.partition(".")[0] for name in known))
    shown = [name for name in outermost if name[:1] not in "LH" or not name[1:].isdecimal()]
    return f"its modules are {', '.join((shown or outermost)[:12])}"
