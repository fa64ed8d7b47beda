"""This module gives the directory of a run that has learned nothing to another run.

A first start often fails: the model has a typing error in its name, the broker refuses the login. Whoever mends the
settings then means the same directory, and nothing in it is worth keeping.
"""

from __future__ import annotations

import contextlib
import shutil

from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import knows_rounds, write_ahead_path
from fedlp_edge.storage.run_directory import RunDirectory


def has_learned(run: RunDirectory) -> bool:
    """Returns whether a round of the run was opened, of which devices know."""
    return bool(Checkpoints(run.checkpoints).newest()) or knows_rounds(run.journal)


def has_model(run: RunDirectory) -> bool:
    """Returns whether the model of the run was ever built; if not, no device can know of the run."""
    return Checkpoints(run.checkpoints).newest() is not None


def clear(run: RunDirectory) -> None:
    """Removes all files of a run that has learned nothing, apart from its lock and its log.

    Raises:
        OSError: A file cannot be removed.
    """
    shared = run.journal.with_name(f"{run.journal.name}-shm")
    journal = (run.journal, write_ahead_path(run.journal), shared)
    for path in (run.config, *journal, run.events, run.summary, run.start_weights):
        path.unlink(missing_ok=True)
    run.clear_spool()
    for directory in (run.checkpoints, run.onnx):
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(directory)
        directory.mkdir(mode=0o700)
