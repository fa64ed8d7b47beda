"""The job of trying an export before the first round: what PyTorch cannot export would be found after the last one.

The model is untrained and the inputs are made, so numbers that differ a little prove nothing and are not looked at.
What the exporter lacks now, it lacks then as well.
"""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedlp_edge.core.blueprint import answer_mode
from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights, check_one_file
from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit, exit_of, exits_of, multi_exit_graph
from fedlp_edge.learning.export.made_inputs import made_inputs
from fedlp_edge.learning.export.metadata import INPUT
from fedlp_edge.learning.export.onnx import (
    AnsweringModel,
    example_of,
    graph_of,
    open_session,
    output_names,
    with_decision,
)
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.learning.model.layered import Submodel
from fedlp_edge.learning.tasks.anomaly import Anomaly
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.worker.jobs import ExportTried, RefusedModel, TryExport, reason_line
from fedlp_edge.worker.resources import WorkerResources

if TYPE_CHECKING:
    import onnx


def try_export(job: TryExport, resources: WorkerResources) -> ExportTried:
    """Exports the untrained model, and runs the file of its deepest exit; nothing is kept."""
    whole, blueprint = resources.models.full_model(job.model.without_names)
    samples = made_inputs(InputFacts(), whole, blueprint.input_shape, tokens=job.model.tokens)
    task = Anomaly() if job.model.task == "anomaly" else resources.task_of(job.model, blueprint)
    depths = tuple(depth for depth in job.depths if depth in blueprint.depths)
    if not depths:
        return ExportTried()
    model = exits_of(whole.to("cpu"), depths, answer_mode(blueprint.exits, blueprint.head_mode, job.answer))
    refused: dict[int, str] = {}
    for depth in depths:
        try:
            check_one_file(exit_of(model, depth), f"depth {depth} of {job.model.name}")
        except ExportError as error:
            refused[depth] = str(error)
    left = tuple(depth for depth in depths if depth not in refused)
    with tempfile.TemporaryDirectory(prefix="fedlp-trial-", dir=job.directory) as directory:
        trial = _Trial(model, task, samples, job.model.name, Path(directory) / "trial.onnx")
        if not trial.joined(left):
            for depth in left:
                try:
                    trial.alone(depth)
                except ExportError as error:
                    refused[depth] = str(error)
    return ExportTried(refused=tuple(RefusedModel(depth, reason_line(refused[depth])) for depth in sorted(refused)))


@dataclass(frozen=True)
class _Trial:
    """What is tried: a model, what its outputs mean, inputs for it, its name, and the file that is written."""

    model: Submodel
    task: LearningTask
    samples: Dataset
    name: str
    file: Path

    def joined(self, depths: tuple[int, ...]) -> bool:
        """Whether some depths can be exported as one graph, of which the deepest one runs."""
        if len(depths) < 2:
            return False
        weights, tasks = DetachedWeights(), dict.fromkeys(depths, self.task)
        with contextlib.suppress(ExportError):
            outputs = output_names(exit_of(self.model, depths[-1]), self.samples, self.task)
            example = example_of(self.samples)
            chosen = exits_of(self.model, depths, self.model.answer)
            graph = multi_exit_graph(chosen, tasks, outputs, example, self.name, weights=weights)
            self._run(cut_exit(graph, depths[-1], outputs), weights, depths[-1])
            return True
        return False

    def alone(self, depth: int) -> None:
        """Exports one depth by itself, and runs it.

        Raises:
            ExportError: It cannot be exported, or onnxruntime does not run it.
        """
        one, weights = exit_of(self.model, depth), DetachedWeights()
        outputs = list(output_names(one, self.samples, self.task))
        answering = AnsweringModel(one, self.task).eval()
        of = f"depth {depth} of {self.name}"
        example = example_of(self.samples)
        try:
            self._run(graph_of(answering, example, outputs, of, weights=weights), weights, depth)
        except ExportError as error:
            raise with_decision(error, answering, example) from None

    def _run(self, graph: onnx.ModelProto, weights: DetachedWeights, depth: int) -> None:
        """Runs a graph on two samples together and on one by itself.

        Raises:
            ExportError: onnxruntime does not load or run it.
        """
        called = Path(f"depth {depth} of {self.name}")
        weights.save(graph, self.file)
        session, x = open_session(self.file, called), example_of(self.samples).numpy()
        try:
            for batch in (x, x[:1]):
                session.run(None, {INPUT: batch})
        except Exception as error:  # onnxruntime's exceptions share no base of their own
            raise ExportError(f"{called} is refused: onnxruntime does not run it: {runtime_reason(error)}") from None
