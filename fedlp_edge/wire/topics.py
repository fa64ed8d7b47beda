"""The topics of one fleet; their shape lets a broker's access rules go by user or client id.

At most four slashes below the prefix and short levels, so that brokers with narrow limits (seven slashes and 256 bytes
on some) carry it. A dot in a name goes as a tilde, which no name may hold: RabbitMQ delivers a topic with dots as one
with slashes, and NATS ends the connection of whoever uses one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Branch = Literal["device", "down", "up", "model", "repeat", "upload", "echo"]


def topic_level(name: str) -> str:
    """The level that stands for a name in a topic, and the user to whom access rules give it."""
    return name.replace(".", "~")


class Topics(msgspec.Struct, frozen=True):
    """Topics below ``fedlp/FLEET``."""

    fleet: str

    @property
    def root(self) -> str:
        """The prefix of all of them."""
        return f"fedlp/{topic_level(self.fleet)}"

    @property
    def coordinator(self) -> str:
        """Where the coordinator announces itself."""
        return f"{self.root}/coordinator"

    def of(self, branch: Branch, leaf: str) -> str:
        """``leaf`` is a device id, or a unit id below ``model``; ``"+"`` subscribes to all."""
        return f"{self.root}/{branch}/{topic_level(leaf)}"

    def parse(self, topic: str) -> tuple[str, str]:
        """Branch and leaf of a received topic; ``("", "")`` if it is not of this fleet."""
        prefix = self.root + "/"
        if not topic.startswith(prefix):
            return "", ""
        branch, _, leaf = topic[len(prefix) :].partition("/")
        return branch, leaf.replace("~", ".")

    def elsewhere(self, topic: str) -> tuple[str, ...]:
        """Filters that hear a topic of the fleet where a broker has put one or two levels before it."""
        return f"+/{topic}", f"+/+/{topic}"

    def renamed(self, topic: str) -> str:
        """The topic of the fleet that a broker has put levels before; empty if it is none such."""
        _, found, rest = topic.partition(f"/{self.root}/")
        return f"{self.root}/{rest}" if found else ""
