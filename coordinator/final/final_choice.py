"""Chooses the model that a run ends with: that of its last round, or that of its best round."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coordinator.rounds.run_history import RunHistory
from coordinator.run_context import RunContext
from fedlp_edge.core.algorithm.aggregation import Array
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.reporting.summary import FinalModel

log = logging.getLogger("fedlp.coordinator")


@dataclass(frozen=True)
class FinalChoice:
    """The model that a run ends with, and its place on the disk.

    Attributes:
        rounds: Number of the last round of the run.
        path: Path of the checkpoint.
        weights: Weights by tensor name, without constants.
        final: Entry of the final model in the summary.
    """

    rounds: int
    path: Path
    weights: Mapping[str, Array]
    final: FinalModel

    @property
    def metadata(self) -> dict[str, str]:
        """String properties of every ONNX file of the model."""
        final = self.final
        best = {"metric": final.metric, "metric_value": f"{final.value:.6g}"} if final.value is not None else {}
        return {"round": str(final.round), "model_digest": final.model_digest} | best


def choose_final(context: RunContext, history: RunHistory, model: GlobalModel) -> FinalChoice:
    """Chooses the final model among the models of the committed rounds.

    Args:
        context: Context of the run.
        history: History of the run, in which a round at least is committed.
        model: Settings of the model of the last round.

    Raises:
        StorageError: The checkpoint of the best model cannot be read.
    """
    checkpoints, judged, last = context.checkpoints, history.judged, history.committed

    def digest_of(round: int) -> str:
        return model.digest if round == last else model.digest_of(checkpoints.load(round)[0])

    final = judged.final_model(checkpoints.has, digest_of)
    weights = model.evaluated
    if final.value is not None:
        log.info("the model of round %d is exported, the best by %s: %.4g", final.round, final.metric, final.value)
    if final.round != last:
        stored, state = checkpoints.load(final.round)
        weights = {name: state.averages.get(name, stored[name]) for name in model.weights}
    return FinalChoice(last, checkpoints.evaluated_path(final.round), weights, final)
