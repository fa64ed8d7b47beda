"""This module is the entry point of ``fedlp``, which handles Ctrl-C before it loads the command line."""

from __future__ import annotations

import sys

from fedlp_edge.system.early_interrupt import end_at_once_on_interrupt


def run() -> None:
    """Runs the console script."""
    end_at_once_on_interrupt()
    try:
        from fedlp_edge.cli.main import app  # noqa: PLC0415 - takes a while
        from fedlp_edge.system.lifecycle import run_command  # noqa: PLC0415
    except Exception as error:
        from fedlp_edge.system.loading.foreign_packages import end_with_cause  # noqa: PLC0415

        end_with_cause(error)

    sys.exit(run_command(app))
