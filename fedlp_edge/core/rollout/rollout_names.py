"""This module names roll-outs: on the broker, a roll-out stands where the coordinator of a run stands otherwise."""

from __future__ import annotations

import re

_RUN = re.compile(r"deploy-.+-[0-9a-f]{6}\Z")
_RELEASE_CHARACTERS = 50


def rollout_run(release: str, token: str) -> str:
    """Returns what a roll-out is called in messages where the name of a run is expected.

    Args:
        release: Name of the release.
        token: Six hexadecimal digits, by which devices tell it from an earlier one of the same files.
    """
    return f"deploy-{release[:_RELEASE_CHARACTERS]}-{token}"


def is_rollout(run: str) -> bool:
    """Returns whether the name of a run is that of a roll-out."""
    return _RUN.match(run) is not None
