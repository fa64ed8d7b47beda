"""This module builds the MQTT topics of one fleet, in which a broker's access rules can match user or client id.

Topics have at most four slashes below the prefix and short levels, so that brokers with narrow limits (seven slashes
and 256 bytes on some) carry them. A dot in a name becomes a tilde, which no name may hold: RabbitMQ delivers a topic
with dots as one with slashes, and NATS ends the connection of a client that uses one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Branch = Literal["device", "down", "up", "model", "repeat", "upload", "echo"]


def topic_level(name: str) -> str:
    """Returns the topic level of a name, which is also the MQTT user name that access rules expect there."""
    return name.replace(".", "~")


def fleet_topic(fleet: str | None) -> str:
    """Returns the common prefix of a fleet's topics; with None a filter that matches that of every fleet."""
    return f"fedlp/{'+' if fleet is None else topic_level(fleet)}"


class Topics(msgspec.Struct, frozen=True):
    """The topics of a fleet, below ``fedlp/FLEET``."""

    fleet: str

    @property
    def root(self) -> str:
        """The common prefix of the fleet's topics."""
        return fleet_topic(self.fleet)

    @property
    def coordinator(self) -> str:
        """The topic on which the coordinator announces itself."""
        return f"{self.root}/coordinator"

    @property
    def state(self) -> str:
        """The topic with the state of the run, for programs that are no part of the fleet."""
        return f"{self.root}/state"

    def of(self, branch: Branch, leaf: str) -> str:
        """Returns the topic of a device id, or of a unit id below ``model``; the leaf ``"+"`` matches all."""
        return f"{self.root}/{branch}/{topic_level(leaf)}"

    def parse(self, topic: str) -> tuple[str, str]:
        """Returns branch and leaf of a received topic; ``("", "")`` if it is not of this fleet."""
        prefix = self.root + "/"
        if not topic.startswith(prefix):
            return "", ""
        branch, _, leaf = topic[len(prefix) :].partition("/")
        return branch, leaf.replace("~", ".")

    def prefixed_filters(self, topic: str) -> tuple[str, ...]:
        """Returns filters that match a topic of the fleet to which a broker has prepended one or two levels."""
        return f"+/{topic}", f"+/+/{topic}"

    def without_prefix(self, topic: str) -> str:
        """Returns a topic without the levels that a broker has prepended; empty if it is no topic of the fleet."""
        _, found, rest = topic.partition(f"/{self.root}/")
        return f"{self.root}/{rest}" if found else ""
