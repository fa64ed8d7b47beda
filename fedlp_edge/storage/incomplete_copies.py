"""This module notices that only a part of a run is in its directory: the rest was not copied, or a power cut took it.

The journal of a run that was not ended in order is two files, of which the second one (``-wal``) may hold every round.
"""

from __future__ import annotations

from fedlp_edge.errors import StorageError
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import knows_rounds, write_ahead_path
from fedlp_edge.storage.run_directory import RunDirectory


def check_exportable(run: RunDirectory) -> None:
    """Checks that the journal is there, without which exported files would answer otherwise than the model.

    Raises:
        StorageError: It is missing, damaged, or holds none of the rounds that there are checkpoints of.
    """
    if Checkpoints(run.checkpoints).newest() and not knows_rounds(run.journal):
        raise StorageError(
            f"{_what_is_missing(run)}, where the names of classes and the common scale of the data stand; copy it "
            "from where the run was made"
        )


def check_continuable(run: RunDirectory) -> None:
    """Checks that a run would not begin anew over its own checkpoints, before its journal is opened.

    A journal whose second file is there was made here: what it lacks of the checkpoints was lost in a power cut, and
    the same rounds are done again.

    Raises:
        StorageError: There are checkpoints, and no journal of them.
    """
    newest = Checkpoints(run.checkpoints).newest()
    if newest and not write_ahead_path(run.journal).exists() and not knows_rounds(run.journal):
        raise StorageError(
            f"{_what_is_missing(run)}, without which {newest} rounds would be done again; copy it from where the "
            "run was made, or name another directory with --out"
        )


def lost_rounds(run: RunDirectory, committed: int) -> str:
    """Returns one line on the rounds that are done again, since a journal lost them; empty if it lost none.

    Args:
        run: Directory of the run.
        committed: Number of the last round that its journal knows as committed.
    """
    newest = Checkpoints(run.checkpoints).newest() or 0
    if newest <= committed + 1:  # the checkpoint is written before the round is committed
        return ""
    return (
        f"the journal ends with round {committed} and the checkpoints with round {newest}, as after a power cut: what "
        "lies between is done again"
    )


def _what_is_missing(run: RunDirectory) -> str:
    journal, second = run.journal.name, write_ahead_path(run.journal).name
    return f"{run.path} holds checkpoints and not their journal ({journal}, with {second} where there is one)"
