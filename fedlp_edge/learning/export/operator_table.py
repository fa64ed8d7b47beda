"""This module has torch's ONNX exporter build its table of operators once in a process, and not for every model.

For the table, the exporter parses the sources of some five hundred functions: a third of the time that the export of a
small model takes, for the same result each time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

_TABLES: dict[tuple[Any, ...], Any] = {}
"""Tables by the arguments that they were built with."""


@contextlib.contextmanager
def kept_operator_table() -> Iterator[None]:
    """Makes the exporter use the table that an earlier export in this process built.

    Versions of torch that build their table elsewhere are left alone.
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415  # loads the exporter

        build = ONNXRegistry.__dict__["from_torchlib"]
    except (ImportError, KeyError):
        yield
        return

    def from_torchlib(cls: type[ONNXRegistry], *args: Any, **named: Any) -> ONNXRegistry:
        key = (cls, args, tuple(sorted(named.items())))
        if key not in _TABLES:
            _TABLES[key] = build.__get__(None, cls)(*args, **named)
        known = _TABLES[key]
        table = cls()
        vars(table).update(vars(known))
        # An export may add operators of its own to its table.
        table.functions = {name: list(functions) for name, functions in known.functions.items()}
        return table

    ONNXRegistry.from_torchlib = classmethod(from_torchlib)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ONNXRegistry.from_torchlib = build  # type: ignore[method-assign]
