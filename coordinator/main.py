"""Starts ``fedlp-coordinator``; the command is loaded when it is called, so that Ctrl-C before that is a line, too.

``fedlp-coordinator deploy ...`` is what ``fedlp deploy ...`` starts.
"""

from __future__ import annotations

import sys

from fedlp_edge.system.early_interrupt import end_at_once_on_interrupt


def run() -> None:
    """Runs the command; the console script calls this."""
    end_at_once_on_interrupt()
    from fedlp_edge.system.lifecycle import run_command  # noqa: PLC0415

    if sys.argv[1:2] == ["deploy"]:
        from coordinator.rollout.rollout_command import app as deploy  # noqa: PLC0415

        del sys.argv[1]
        sys.exit(run_command(lambda: deploy(prog_name="fedlp deploy")))
    from coordinator.command import app  # noqa: PLC0415 - takes a second

    sys.exit(run_command(lambda: app(prog_name="fedlp-coordinator")))
