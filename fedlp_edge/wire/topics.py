"""The topics of one fleet; their shape lets a broker's access rules go by user or client id.

At most four slashes below the prefix and short levels, so that brokers with narrow limits (seven
slashes and 256 bytes on some) carry it.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Branch = Literal["device", "down", "up", "model", "repeat", "upload", "echo"]


class Topics(msgspec.Struct, frozen=True):
    """Topics below ``fedlp/FLEET``."""

    fleet: str

    @property
    def root(self) -> str:
        """The prefix of all of them."""
        return f"fedlp/{self.fleet}"

    @property
    def coordinator(self) -> str:
        """Where the coordinator announces itself."""
        return f"{self.root}/coordinator"

    def of(self, branch: Branch, leaf: str) -> str:
        """``leaf`` is a device id, or a unit id below ``model``; ``"+"`` subscribes to all."""
        return f"{self.root}/{branch}/{leaf}"

    def parse(self, topic: str) -> tuple[str, str]:
        """Branch and leaf of a received topic; ``("", "")`` if it is not of this fleet."""
        prefix = self.root + "/"
        if not topic.startswith(prefix):
            return "", ""
        branch, _, leaf = topic[len(prefix) :].partition("/")
        return branch, leaf
