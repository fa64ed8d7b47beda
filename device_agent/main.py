"""``fedlp-agent``: loads the command when it is called, so that Ctrl-C before that is a line, too."""

from __future__ import annotations

import sys

from fedlp_edge.lifecycle import loading, run_command


def _command() -> int | None:
    with loading():
        from device_agent.command import app  # noqa: PLC0415 - takes a second

    app(prog_name="fedlp-agent")
    return None


def run() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(_command))
