"""This module sends messages and file descriptors between a simulation and its worker processes, over Unix sockets.

A message is a length, a count of descriptors and that many bytes of MessagePack; the descriptors pass shared memory. On
Windows, whose sockets pass none, shared memory has a name, which stands in the message.
"""

from __future__ import annotations

import array
import socket
import struct
import sys
from typing import Generic, TypeVar

import msgspec

from fedlp_edge.simulation.engines.jobs import Reply, SimulationJob, WorkerReady, WorkerSetup
from fedlp_edge.simulation.shared_memory import Layout

T = TypeVar("T")

_HEADER = struct.Struct("<IB")
_MAX_DESCRIPTORS = 4


class SampleArrays(msgspec.Struct, frozen=True, tag=True):
    """This message passes the shared memory of samples, as one descriptor.

    Attributes:
        group: Name of the arrays, which replace earlier ones of this name.
    """

    group: str
    layout: Layout
    name: str = ""


class WeightsBuffer(msgspec.Struct, frozen=True, tag=True):
    """This message passes the shared memory for a version of the model weights, as one descriptor."""

    board: int
    layout: Layout
    name: str = ""


class Sums(msgspec.Struct, frozen=True, tag=True):
    """This message passes the shared memory to which this worker writes its sums, as one descriptor."""

    layout: Layout
    name: str = ""


class SetUpWorker(msgspec.Struct, frozen=True, tag=True):
    """This message asks a worker to drop the previous experiment and build the model of a new one."""

    setup: WorkerSetup


class InitialWeights(msgspec.Struct, frozen=True, tag=True):
    """This message asks a worker to write the model's initial weights to a weights buffer."""

    board: int


class PublishWeights(msgspec.Struct, frozen=True, tag=True):
    """This message says that a weights buffer now holds this version of the model weights."""

    version: int
    board: int


class WeightsWritten(msgspec.Struct, frozen=True, tag=True):
    """This message says that the initial weights are in the weights buffer."""


class SumsWritten(msgspec.Struct, frozen=True, tag=True):
    """This message says that the sums are in the shared memory.

    Attributes:
        sent: Names of the tensors that at least one device sent.
        weights: Rows of an update weight and the shape of its block, by tensor name (``SumArrays``).
    """

    sent: tuple[str, ...]
    weights: dict[str, tuple[tuple[int, ...], ...]]


class StartWorker(msgspec.Struct, frozen=True, tag=True):
    """This message asks the starter process to fork a worker; one end of the worker's socket pair comes with it."""

    worker: int


class AwaitWorker(msgspec.Struct, frozen=True, tag=True):
    """This message asks the starter process to wait for the end of a worker and send its ``WorkerExit``."""

    worker: int


class WorkerExit(msgspec.Struct, frozen=True, tag=True):
    """This message gives the exit code of a worker; negative for the signal that ended it."""

    code: int


ToWorker = SimulationJob | SampleArrays | WeightsBuffer | Sums | SetUpWorker | InitialWeights | PublishWeights
FromWorker = Reply | WorkerReady | WeightsWritten | SumsWritten
ToStarter = StartWorker | AwaitWorker


class ChannelClosedError(EOFError):
    """Raised when the process at the other end has ended."""


class Channel(Generic[T]):
    """One end of a socket pair that sends and receives messages.

    Args:
        end: Connected, blocking socket.
        received: Type of the received messages.
    """

    def __init__(self, end: socket.socket, received: type[T]) -> None:
        self._end = end
        self._decoder = msgspec.msgpack.Decoder(received)
        self._encoder = msgspec.msgpack.Encoder()

    def fileno(self) -> int:
        """Returns the file descriptor, for select."""
        return self._end.fileno()

    def send(self, message: ToWorker | FromWorker | ToStarter | WorkerExit, *descriptors: int) -> None:
        """Sends one message.

        Raises:
            ChannelClosedError: The process at the other end has ended.
        """
        body = self._encoder.encode(message)
        head = _HEADER.pack(len(body), len(descriptors))
        try:
            if descriptors:
                socket.send_fds(self._end, [head], descriptors)
                head = b""
            self._end.sendall(head + body)
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> tuple[T, list[int]]:
        """Waits for one message; returns it with its descriptors.

        Raises:
            ChannelClosedError: The process at the other end has ended.
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
        if sys.platform == "win32":
            return self._exactly(_HEADER.size), []
        try:
            head, raw, _, _ = self._end.recvmsg(_HEADER.size, socket.CMSG_LEN(4 * _MAX_DESCRIPTORS))
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
