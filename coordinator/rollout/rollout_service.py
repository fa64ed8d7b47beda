"""Carries out a roll-out: one process on the broker, which may be killed at any time and goes on where it was.

It stands where the fleet's coordinator stands, so it refuses to begin while one is at work.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

from coordinator.broker_clock import AwakeClock
from coordinator.coordinator_topic import CoordinatorTopic, first_connection, settle_in
from coordinator.inbox import InboxItem
from coordinator.rollout.install_orders import RolloutFiles
from coordinator.rollout.rollout_directory import RolloutDirectory, RolloutPlan
from coordinator.rollout.rollout_loop import RolloutContext, RolloutLoop
from coordinator.rollout.rollout_status_file import RolloutStatusFile
from coordinator.topic_claim import TopicClaimedError, claimed_by
from coordinator.transfer.messenger import ControlMessenger
from fedlp_edge.core.rollout.rollout_machine import RolloutMachine
from fedlp_edge.errors import OperatorError
from fedlp_edge.transport.base import Transport
from fedlp_edge.wire.topics import Topics


class Rollout:
    """One roll-out.

    Args:
        plan: What was asked for.
        files: What devices may get.
        directory: Directory of the roll-out, locked.
        inbox: Queue for the events of the transport and the stop signal.
        transport: Transport, not yet started.
        say: Shows a line to the operator.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        plan: RolloutPlan,
        files: RolloutFiles,
        directory: RolloutDirectory,
        inbox: queue.SimpleQueue[InboxItem],
        transport: Transport,
        say: Callable[[str], None] = lambda _line: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._inbox = inbox
        self._transport = transport
        self._machine = RolloutMachine(plan.settings)
        self._messenger = ControlMessenger(transport, Topics(plan.fleet), plan.run)
        self._coordinator_topic = CoordinatorTopic(self._messenger, plan.run, clock)
        self._context = RolloutContext(plan, files, directory, self._machine, self._messenger, say, AwakeClock(clock))

    def run(self, gather_seconds: float) -> bool:
        """Carries the roll-out out until it is over, or until stopped.

        Args:
            gather_seconds: Seconds in which devices are seen before anything is decided.

        Returns:
            Whether it is over; otherwise the same call goes on with it.

        Raises:
            OperatorError: Another coordinator is at work, or there is no device.
            BrokerError: The first connection to the broker failed.
        """
        self._machine.replay(self._directory.events(), self._context.clock())
        if self._machine.closed:
            status_file = RolloutStatusFile(self._directory, self._machine, self._context.clock)
            status_file.take_up()
            status_file.write()  # an earlier process may have been killed before it could
            return True
        self._transport.start(self._inbox.put)
        try:
            limits = first_connection(self._inbox)
            topics = Topics(self._plan.fleet)
            if limits is None or not settle_in(self._inbox, self._transport, topics, self._coordinator_topic):
                return False
            loop = RolloutLoop(self._context, self._inbox, self._transport, limits, self._coordinator_topic)
            try:
                loop.run(gather_seconds)
            finally:
                if self._coordinator_topic.settled:
                    self._messenger.announce("finished" if self._machine.closed else "offline", leaving=True)
        except TopicClaimedError as occupied:
            raise OperatorError(
                f'{claimed_by(str(occupied))} is at work for fleet "{self._plan.fleet}"; let it end, or stop it, and '
                "deploy then"
            ) from None
        finally:
            self._transport.stop()
        return self._machine.closed
