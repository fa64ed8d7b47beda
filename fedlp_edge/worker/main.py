"""This module is the worker process, which reads jobs from standard input and writes replies, one JSON line each.

:mod:`fedlp_edge.worker.process` runs it as ``python -m fedlp_edge.worker.main '<WorkerOptions as JSON>'``. It ends at
once when its input ends, so it never outlives its parent, even in the middle of training: every file that jobs write is
complete or absent.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO

import msgspec

from fedlp_edge.system.cgroups import ControlGroup
from fedlp_edge.system.directories import working_directory
from fedlp_edge.system.lifecycle import raise_oom_score
from fedlp_edge.worker.jobs import Reply, Request, WorkerOptions


def main() -> None:
    """Does jobs until standard input ends."""
    options = msgspec.json.decode(sys.argv[1], type=WorkerOptions)
    jobs, replies = _private_stdin(), _private_stdout()
    _enter(options.memory_group)
    raise_oom_score()
    sys.path.append(working_directory())  # the owner's own functions; appended last, so that they shadow no module

    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(jobs, requests), name="requests", daemon=True).start()

    from fedlp_edge.worker.job_runner import JobRunner  # noqa: PLC0415  # torch, only now that input is watched

    runner = JobRunner(options)
    while True:
        request = requests.get()
        result = runner.run(request.job)
        replies.write(msgspec.json.encode(Reply(id=request.id, result=result, last=runner.needs_new_process)) + b"\n")
        replies.flush()
        if runner.needs_new_process:
            os._exit(0)


def _enter(group: str | None) -> None:
    """Enters the memory control group, before this process allocates memory that would count for its parent's group."""
    if group is None:
        return
    try:
        ControlGroup.at(Path(group)).take()
    except OSError as error:
        print(f"trains without a memory group of its own: {error}", file=sys.stderr, flush=True)


def _private_stdin() -> IO[bytes]:
    """Reserves standard input for jobs; who else reads it, as a user's ``input()`` does, finds it at its end."""
    jobs = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return jobs


def _private_stdout() -> IO[bytes]:
    """Reserves standard output for replies; everything else that prints goes to standard error."""
    sys.stdout.flush()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return replies


def _read_requests(jobs: IO[bytes], requests: queue.SimpleQueue[Request]) -> None:
    decoder = msgspec.json.Decoder(Request)
    for line in jobs:
        try:
            requests.put(decoder.decode(line))
        except msgspec.MsgspecError as error:
            print(f"an unreadable job: {error}", file=sys.stderr, flush=True)
            os._exit(2)
    os._exit(0)


if __name__ == "__main__":
    main()
