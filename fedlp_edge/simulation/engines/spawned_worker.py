"""This module runs one worker process of the local engine where the system does not fork them (``worker_starters``).

Run as ``python -m fedlp_edge.simulation.engines.spawned_worker FD``, where FD is one end of a socket pair; on Windows
the socket comes over standard input. The process ends at once when its standard input does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading

from fedlp_edge.simulation.engines.worker_starters import SHARED_SOCKET


def main() -> None:
    """Does what the simulation asks for until it ends."""
    end = _socket()
    threading.Thread(target=_end_with_stdin, name="simulation", daemon=True).start()

    from fedlp_edge.simulation.engines.local_worker import prepare, serve  # noqa: PLC0415 - torch takes seconds

    prepare()
    serve(end)
    os._exit(0)


def _socket() -> socket.socket:
    if sys.platform == "win32":
        (size,) = SHARED_SOCKET.unpack(_exactly(SHARED_SOCKET.size))
        return socket.fromshare(_exactly(size))
    return socket.socket(fileno=int(sys.argv[1]))


def _exactly(count: int) -> bytes:
    content = b""
    while len(content) < count:
        part = os.read(0, count - len(content))
        if not part:
            os._exit(0)
        content += part
    return content


def _end_with_stdin() -> None:
    while os.read(0, 64):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
