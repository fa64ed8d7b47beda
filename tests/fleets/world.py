"""Services in one process and in virtual time, to be killed at any step.

Services run in threads, but only one at a time, and only while the world waits for it: a service that waits for its
inbox gives the turn back. So a story is the same every time, an hour passes in no time, and nothing sleeps.

A *step* of a service is everything that somebody else could see afterwards: a publish, a job for the worker, a
statement of the journal, and every replacing, removing, flushing or writing of a file at a place. Between two steps
there is nothing that a kill -9 could change, so killing before each step covers all moments. What a service does
after its death (its ``finally`` clauses run here, as they would not in a killed process) has no effect.
"""

from __future__ import annotations

import heapq
import itertools
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.base import BrokerLimits, LastWill, Sink
from fedlp_edge.transport.in_memory import MemoryHub, MemoryTransport
from tests.fleets.wire import SlowTransport, Wire

LIMITS = BrokerLimits("memory", max_packet_bytes=1700, receive_maximum=100)
"""Chunks of a kilobyte: a unit takes three."""


Tamper = Callable[[str, bytes], bytes]


class Killed(BaseException):
    """kill -9, as seen from inside."""


def _taken() -> threading.Lock:
    """A lock to be released by another thread; unlike a semaphore, it is no Python code, and turns are many."""
    lock = threading.Lock()
    lock.acquire()
    return lock


class Life:
    """One life of one service, from its start to its end or death.

    Args:
        world: that it lives in.
        name: of the service; also its client id.
        body: what it does; gets this object.
        die_at: number of the step before which it is killed; None to live.
    """

    def __init__(self, world: World, name: str, body: Callable[[Life], object], die_at: int | None = None) -> None:
        self.world = world
        self.name = name
        self.inbox = Inbox(self)
        self.next_wakeup: float | None = 0.0
        self.steps: list[str] = []
        self.dead = False
        self.ended = False
        self.result: object = None
        self._die_at = die_at
        self._turn, self._back = _taken(), _taken()
        self._thread = threading.Thread(target=self._run, args=(body,), name=name, daemon=True)
        self._started = False

    @property
    def runnable(self) -> bool:
        due = self.next_wakeup is not None and self.next_wakeup <= self.world.now
        return not self.ended and (due or bool(self.inbox.items))

    def go_on(self) -> None:
        """Lets it work until it waits, ends or dies."""
        if not self._started:
            self._started = True
            self._thread.start()
        else:
            self._turn.release()
        self._back.acquire()

    def wait(self, until: float | None) -> None:
        """Called by its own thread: gives the turn back."""
        self.next_wakeup = until
        self._back.release()
        self._turn.acquire()
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """Called by the world while it waits: it never gets anything done again."""
        self.dead = True
        if self._started and not self.ended:
            self.go_on()
        self.ended = True

    def step(self, what: str) -> None:
        """Called by its own thread before everything that has an effect."""
        if self.dead:
            raise Killed
        self.steps.append(what)
        if len(self.steps) == self._die_at:
            self.dead = True
            raise Killed

    def _run(self, body: Callable[[Life], object]) -> None:
        self.world.by_thread[threading.get_ident()] = self
        try:
            self.result = body(self)
        except Killed:
            pass
        except BaseException as error:
            self.result = error
        finally:
            del self.world.by_thread[threading.get_ident()]
            self.ended = True
            self._back.release()


class Inbox(queue.Queue):
    """A service's queue; waiting for it passes the turn."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self.items: deque[Any] = deque()
        self._life = life

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self.items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not self.items and block:
            now = self._life.world.now
            until = None if timeout is None else now + timeout
            while not self.items and (until is None or self._life.world.now < until):
                self._life.wait(until)
        if self._life.dead:
            raise Killed
        if not self.items:
            raise queue.Empty
        return self.items.popleft()

    def qsize(self) -> int:
        return len(self.items)

    def empty(self) -> bool:
        return not self.items


class InTurn(Executor):
    """Does what it is given at once, in the thread of the life that gives it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class SteppedTransport:
    """A transport to the hub whose publishes are steps."""

    def __init__(self, life: Life, will: LastWill, tamper: Tamper = lambda topic, payload: payload) -> None:
        self._life = life
        self._tamper = tamper
        inner = life.world.hub.transport(life.name, will)
        wire = life.world.wires.get(life.name)
        self._connection = inner
        self._inner = inner if wire is None else SlowTransport(life.world, inner, wire)

    def start(self, sink: Sink) -> None:
        self._life.world.connections[self._life.name] = self._connection
        try:
            self._inner.start(sink)
        except BrokerError:  # down at this very moment; a real transport's caller would be told, and start again
            self._connection.sink = sink

    def subscribe(self, topic: str) -> None:
        self._inner.subscribe(topic)

    def unsubscribe(self, topic: str) -> None:
        self._inner.unsubscribe(topic)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> int:
        self._life.step(f"publish {topic}")
        return self._inner.publish(topic, self._tamper(topic, payload), retain=retain)

    def stop(self) -> None:
        if not self._life.dead:
            self._inner.stop()


class World:
    """Time, the broker, and the services.

    Attributes:
        now: virtual seconds.
        hub: the broker.
        wires: between a service and the broker, by its name; a service without one is beside the broker.
        lives: the present life of every service, by name.
        turns: how many things have happened.
        at_turn: what a test wants to happen before a thing of this number.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.hub = MemoryHub(limits=LIMITS)
        self.wires: dict[str, Wire] = {}
        self.lives: dict[str, Life] = {}
        self.by_thread: dict[int, Life] = {}
        self.connections: dict[str, MemoryTransport] = {}
        self.turns = 0
        self.at_turn: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def begin(self, name: str, body: Callable[[Life], object], die_at: int | None = None) -> Life:
        life = self.lives[name] = Life(self, name, body, die_at)
        return life

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self.now + seconds, next(self._order), action))

    def bury(self, name: str) -> None:
        """Takes a dead service off the broker, which publishes its will."""
        self.connections.pop(name, None)
        if name in self.hub._clients:
            self.hub.kill(name)

    def cut(self, name: str, seconds: float = 1.0) -> None:
        """A client loses its connection and gets it back after a while."""
        connection = self.connections.get(name)
        if connection is not None and name in self.hub._clients:
            self.hub.drop(name)
            self.after(seconds, lambda: self._reconnect(name, connection))

    def restart_broker(self, seconds: float = 1.0) -> None:
        """The broker is killed, forgets everything, and is back after a while."""
        self.hub.shut_down()
        self.after(seconds, self._broker_is_back)

    def _broker_is_back(self) -> None:
        self.hub.start_again()
        for name, connection in list(self.connections.items()):
            self._reconnect(name, connection)

    def _reconnect(self, name: str, connection: MemoryTransport) -> None:
        if self.connections.get(name) is connection and not self.lives[name].ended:
            with suppress(BrokerError):  # down at this very moment; once it is back, all are connected again
                self.hub.reconnect(connection)

    def advance(self) -> bool:
        """Lets the next thing happen; False if nothing will ever happen again."""
        self.turns += 1
        if self.turns in self.at_turn:
            self.at_turn.pop(self.turns)()
        for life in self.lives.values():
            if life.runnable:
                life.go_on()
                if life.dead:
                    self.bury(life.name)
                return True
        if self.hub.deliver(at_most=1) or self.hub.release():
            return True
        waking = [life.next_wakeup for life in self.lives.values() if not life.ended and life.next_wakeup is not None]
        due = min([*waking, *(timer[0] for timer in self._timers[:1])], default=None)
        if due is None:
            return False
        self.now = max(self.now, due)
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While this lasts, what services do to files and journal are steps."""

        def counted(what: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def act(*args: Any, **more: Any) -> Any:
                life = self.by_thread.get(threading.get_ident())
                if life is not None:
                    life.step(what)
                # A killed process leaves to the kernel what it wrote, so waiting for the disk changes nothing here.
                return None if what == "fsync" and life is not None else real(*args, **more)

            return act

        class Connection(sqlite3.Connection):
            """Does not wait for the disk either."""

            def __init__(self, *args: Any, **more: Any) -> None:
                super().__init__(*args, **more)
                super().execute("PRAGMA synchronous=OFF")

            def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if statement.startswith("PRAGMA synchronous="):
                    statement = "PRAGMA synchronous"  # asks, and changes nothing
                return super().execute(statement, *values)

            execute = counted("journal", _execute)
            executemany = counted("journal", sqlite3.Connection.executemany)
            commit = counted("journal", sqlite3.Connection.commit)

        connect = sqlite3.connect
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more, factory=Connection))
            for name in ("replace", "rename", "unlink", "fsync", "pwrite", "ftruncate", "link", "symlink"):
                patch.setattr(os, name, counted(name, getattr(os, name)))
            yield
