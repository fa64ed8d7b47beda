"""This module lists the keys of a fleet's or an experiment's file that earlier versions called by another name.

A file that has such a key is refused with a message that gives the new name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

RENAMED: Mapping[tuple[str, ...], str] = MappingProxyType(
    {
        ("model", "heads"): "[model] head_mode",
        ("scheme", "encoding"): "[update] encoding",
        ("scheme", "upload_budget"): "[update] budget",
        ("scheme", "memory_margin"): "[planner] memory_margin",
        ("scheme", "techniques"): "[planner] techniques",
        ("scheme", "levers"): "[planner] techniques",
        ("scheme", "promote_after_rounds"): "[planner] promote_after_rounds",
        ("scheme", "climb_after"): "[planner] promote_after_rounds",
        ("rounds", "least_holders"): "[rounds] min_holders",
        ("training", "thrift"): '[training.memory], and its allocation = "roomy" is allocator = "cached"',
        ("training", "memory", "allocation"): '[training.memory] allocator, and its "roomy" is "cached"',
    }
)
"""New name of each key, by the path of the old one."""
