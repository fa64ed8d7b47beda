"""Messages and file descriptors between a simulation and its workers."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from fedlp_edge.simulation.engines.channel import (
    Channel,
    ChannelClosedError,
    FromWorker,
    PublishWeights,
    SampleArrays,
    ToWorker,
    WeightsWritten,
)
from fedlp_edge.simulation.shared_memory import SharedArrays


def test_shares_arrays_with_who_gets_the_descriptor() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        memory = SharedArrays.copy_of({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7])})
        to_worker: Channel[FromWorker] = Channel(ours, FromWorker)  # type: ignore[arg-type]
        to_us: Channel[ToWorker] = Channel(theirs, ToWorker)  # type: ignore[arg-type]
        to_worker.send(SampleArrays("pictures", memory.layout), memory.descriptor)
        to_worker.send(PublishWeights(3, 0))
        message, descriptors = to_us.receive()
        assert isinstance(message, SampleArrays)
        other = SharedArrays(descriptors[0], message.layout).close_descriptor()
        other.arrays["a"][1, 2] = 50
        assert memory.arrays["a"].tolist() == [[0, 1, 2], [3, 4, 50]]
        memory.close()
        assert other.arrays["b"].tolist() == [7]
        assert to_us.receive() == (PublishWeights(3, 0), [])
        to_us.send(WeightsWritten())
        assert to_worker.receive() == (WeightsWritten(), [])


def test_says_so_when_the_other_side_has_ended() -> None:
    ours, theirs = socket.socketpair()
    channel: Channel[FromWorker] = Channel(ours, FromWorker)  # type: ignore[arg-type]
    theirs.close()
    with pytest.raises(ChannelClosedError):
        channel.receive()
    channel.close()
