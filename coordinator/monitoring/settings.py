"""The settings of what a coordinator tells other programs of its run."""

from __future__ import annotations

from typing import Annotated

import msgspec


class MonitoringSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is published of a run besides what its devices need.

    Attributes:
        topic: Whether the state of the run is published, retained, as JSON.
        home_assistant: Whether Home Assistant is told by MQTT discovery what to show of it, which includes ``topic``.
        discovery_prefix: First level, or levels, of the topics on which Home Assistant listens for that.
    """

    topic: bool = False
    home_assistant: bool = False
    discovery_prefix: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[^#+/\s]+(/[^#+/\s]+)*$",
            max_length=64,
            description='the beginning of topics, without +, # and blanks, such as "homeassistant"',
        ),
    ] = "homeassistant"

    @property
    def is_on(self) -> bool:
        """Whether anything is published."""
        return self.topic or self.home_assistant
