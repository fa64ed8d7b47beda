"""Notices that one of the two ways by which layers come to this device is closed, and says so once.

Layers are broadcast to everybody on topics of their own, and what a device has missed is sent again on its own topic.
Either way replaces the other as far as it can: with one of them forbidden by a broker that drops such messages without
a word, a fleet goes on, only slower than it need be, or some of its rounds fail.
"""

from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.events import Effects, Identity, Log

_ROUNDS = LIMITS.presence.unheard_rounds


class DeliveryCheck:
    """The ways by which layers have come since the agent was started.

    Args:
        identity: Identity of the agent.
    """

    def __init__(self, identity: Identity) -> None:
        topics = identity.topics
        self._broadcasts, self._repeats = topics.of("model", "+"), topics.of("repeat", identity.device)
        self._round: int | None = None
        self._broadcast_came = self._repeat_came = self._told = False
        self._repeated_rounds: set[int] = set()
        self._asked_rounds: set[int] = set()

    def came(self, *, repeated: bool) -> None:
        """Notes that a chunk came, as a broadcast or sent again."""
        self._broadcast_came = self._broadcast_came or not repeated
        self._repeat_came = self._repeat_came or repeated
        if repeated and self._round is not None and not self._broadcast_came:
            self._repeated_rounds.add(self._round)

    def asked(self) -> None:
        """Notes that this device has asked for what it has missed of a round's layers."""
        if self._round is not None and not self._repeat_came:
            self._asked_rounds.add(self._round)

    def begin_round(self, number: int) -> Effects:
        """Notes that a task came; warns if the rounds before have shown that a way is closed."""
        self._round = number
        if self._told:
            return []
        if not self._broadcast_came and len(self._repeated_rounds) >= _ROUNDS:
            text = (
                f"the layers that are broadcast on {self._broadcasts} never arrive here, and this device has to ask "
                "for each of them, which takes longer"
            )
        elif not self._repeat_came and len(self._asked_rounds) >= _ROUNDS:
            text = f"what this device has missed and asks for never arrives on {self._repeats}"
        else:
            return []
        self._told = True
        rules = "do the broker's access rules let it read there? fedlp doctor broker tells"
        return [Log(f"{text}: {rules}", warning=True)]
