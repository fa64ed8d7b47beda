"""Messages and file descriptors between a simulation and its worker processes, over a pair of Unix sockets.

A message is a length, a count of descriptors and that many bytes of MessagePack; descriptors are how shared memory
is handed over.
"""

from __future__ import annotations

import array
import socket
import struct
from typing import Generic, TypeVar

import msgspec

from fedlp_edge.simulation.engines.jobs import Reply, SimulationJob, WorkerReady, WorkerSetup
from fedlp_edge.simulation.shared_memory import Layout

T = TypeVar("T")

_HEADER = struct.Struct("<IB")
_MOST_DESCRIPTORS = 4


class SampleArrays(msgspec.Struct, frozen=True, tag=True):
    """Samples of the experiments to come; one descriptor comes along.

    Attributes:
        group: takes the place of what was sent under the same name before.
    """

    group: str
    layout: Layout


class WeightsBuffer(msgspec.Struct, frozen=True, tag=True):
    """Memory for a version of the weights; one descriptor comes along."""

    board: int
    layout: Layout


class Sums(msgspec.Struct, frozen=True, tag=True):
    """Memory in which this worker hands over its sums; one descriptor comes along."""

    layout: Layout


class SetUpWorker(msgspec.Struct, frozen=True, tag=True):
    """Forget the experiment before and build the model of this one."""

    setup: WorkerSetup


class InitialWeights(msgspec.Struct, frozen=True, tag=True):
    """Write the values that the model was built with to a board."""

    board: int


class PublishWeights(msgspec.Struct, frozen=True, tag=True):
    """A board holds this version of the weights now."""

    version: int
    board: int


class WeightsWritten(msgspec.Struct, frozen=True, tag=True):
    """The initial values are on the board."""


class SumsWritten(msgspec.Struct, frozen=True, tag=True):
    """The sums are in the memory given for them.

    Attributes:
        sent: names of the tensors that somebody sent.
        weights: rows of a weight and the shape of its block, by name (``SumArrays``).
    """

    sent: tuple[str, ...]
    weights: dict[str, tuple[tuple[int, ...], ...]]


class StartWorker(msgspec.Struct, frozen=True, tag=True):
    """Split off a worker; its end of a socket pair comes along."""

    worker: int


class AwaitWorker(msgspec.Struct, frozen=True, tag=True):
    """Say how this worker ended, once it has."""

    worker: int


class WorkerExit(msgspec.Struct, frozen=True, tag=True):
    """The exit code of a worker; negative for the signal that ended it."""

    code: int


ToWorker = SimulationJob | SampleArrays | WeightsBuffer | Sums | SetUpWorker | InitialWeights | PublishWeights
FromWorker = Reply | WorkerReady | WeightsWritten | SumsWritten
ToStarter = StartWorker | AwaitWorker


class ChannelClosedError(EOFError):
    """The other side has ended."""


class Channel(Generic[T]):
    """One end of the pair.

    Args:
        end: connected and blocking.
        received: type of what comes in.
    """

    def __init__(self, end: socket.socket, received: type[T]) -> None:
        self._end = end
        self._decoder = msgspec.msgpack.Decoder(received)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """For select."""
        return self._end.fileno()

    def send(self, message: ToWorker | FromWorker | ToStarter | WorkerExit, *descriptors: int) -> None:
        """Sends one message.

        Raises:
            ChannelClosedError: nobody is there to read it.
        """
        body = self._encoder.encode(message)
        try:
            socket.send_fds(self._end, [_HEADER.pack(len(body), len(descriptors))], descriptors)
            self._end.sendall(body)
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> tuple[T, list[int]]:
        """Waits for one message, and the descriptors that came with it.

        Raises:
            ChannelClosedError: the other side has ended.
        """
        head, descriptors = self._header()
        length, count = _HEADER.unpack(head)
        if count != len(descriptors):
            raise ChannelClosedError
        return self._decoder.decode(self._exactly(length)), descriptors

    def close(self) -> None:
        """Ends the connection."""
        self._end.close()

    def _header(self) -> tuple[bytes, list[int]]:
        try:
            head, raw, _, _ = self._end.recvmsg(_HEADER.size, socket.CMSG_LEN(4 * _MOST_DESCRIPTORS))
            descriptors = array.array("i")
            for level, kind, data in raw:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(data)
            if not head:
                raise ChannelClosedError
            return head + self._exactly(_HEADER.size - len(head)), list(descriptors)
        except OSError as error:
            raise ChannelClosedError from error

    def _exactly(self, count: int) -> bytes:
        parts = []
        while count:
            try:
                part = self._end.recv(count)
            except OSError as error:
                raise ChannelClosedError from error
            if not part:
                raise ChannelClosedError
            parts.append(part)
            count -= len(part)
        return b"".join(parts)
