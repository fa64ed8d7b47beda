"""Starts ``fedlp-agent``; the command is loaded when it is called, so that Ctrl-C before that is a line, too."""

from __future__ import annotations

import sys

from fedlp_edge.system.early_interrupt import end_at_once_on_interrupt


def run() -> None:
    """Runs the command; the console script calls this."""
    end_at_once_on_interrupt()
    try:
        from device_agent.command import app  # noqa: PLC0415 - takes a second
        from fedlp_edge.system.lifecycle import run_command  # noqa: PLC0415
    except Exception as error:
        from fedlp_edge.system.loading.foreign_packages import end_with_cause  # noqa: PLC0415

        end_with_cause(error)

    sys.exit(run_command(lambda: app(prog_name="fedlp-agent")))
