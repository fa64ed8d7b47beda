"""This module exports PyTorch models to ONNX files, and checks that onnxruntime gives the same results as PyTorch.

Operators differ between exporters and runtimes, so a written file need not work. Every file is run in onnxruntime on
real samples before it gets its name, and is refused if its results differ.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.external.detached_weights import DetachedWeights, exceeds_a_file
from fedlp_edge.learning.export.family.plain_graph import make_plain
from fedlp_edge.learning.export.metadata import INPUT, OPSET, OUTPUT, OnnxMetadata, to_properties
from fedlp_edge.learning.export.onnx_rewrites import RewrittenCalls
from fedlp_edge.learning.export.operator_table import kept_operator_table
from fedlp_edge.learning.export.parity import compare_logits, own_error
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.classification import Classification
from fedlp_edge.system.loading.install_command import install_command
from fedlp_edge.system.portable.c_library import c_function
from fedlp_edge.system.portable.process_ends import signal_of

if TYPE_CHECKING:
    import onnx

LAST_TRACED_OPSET = 17
"""Newest opset of PyTorch's older exporter, which takes some models that the newer one does not."""

_COMPARED = 256  # samples on which PyTorch and onnxruntime are compared
_SINGLES = 8  # of these, samples that are also run in batches of one
_BATCH = 256
_BATCH_VALUES = 1 << 22  # float32 values in a batch, so that large pictures fit into memory

_OURS = str(Path(__file__).resolve().parents[2])  # whose code looks at sizes, and decides nothing by the samples

_DECIDES = re.compile("Converting a tensor to a Python (boolean|integer|float|index)")


@dataclass(frozen=True, slots=True)
class Verified:
    """Describes an ONNX file that was written and passed its checks.

    Attributes:
        path: Path of the file.
        max_abs_diff: Largest absolute difference between a logit of onnxruntime and of PyTorch on the compared samples.
        accuracy: Accuracy of onnxruntime on all held-out samples, 0 to 1; None without labels.
    """

    path: Path
    max_abs_diff: float
    accuracy: float | None


def export(
    model: nn.Module,
    onnx_metadata: OnnxMetadata,
    data: Dataset,
    path: Path,
    extra: Mapping[str, str],
    *,
    labelled: bool = True,
    task: LearningTask | None = None,
) -> Verified:
    """Exports one model to an ONNX file, which gets its name only after it has passed its checks.

    What the exporters print, log or warn of is suppressed.

    Args:
        model: Model on the CPU that returns logits [B, classes] for samples [B, ...]; it is left in evaluation mode.
        onnx_metadata: Metadata for the file.
        data: Held-out samples on the CPU.
        path: Path of the file; an older file is replaced atomically.
        extra: Further text properties.
        labelled: Whether the samples have labels; made inputs have none.
        task: What the outputs mean; None for classification.

    Raises:
        ExportError: The model cannot be exported or written, or onnxruntime gives other results than PyTorch.
    """
    model.eval()
    of = f"depth {onnx_metadata.depth} of {onnx_metadata.model}"
    named = AnsweringModel(model, task).eval()
    weights = DetachedWeights()
    proto = graph_of(named, example_of(data), list(onnx_metadata.outputs), of, weights=weights)
    return write_checked(proto, weights, model, onnx_metadata, data, path, extra, labelled=labelled, task=task)


def write_checked(
    proto: onnx.ModelProto,
    weights: DetachedWeights,
    model: nn.Module,
    onnx_metadata: OnnxMetadata,
    data: Dataset,
    path: Path,
    extra: Mapping[str, str],
    *,
    labelled: bool = True,
    task: LearningTask | None = None,
) -> Verified:
    """Writes a graph as a file, which gets its name only after it was compared with the PyTorch model.

    Args:
        proto: Graph of the model and the task, as `graph_of` gives it.
        weights: Weights that are kept outside the graph.
        model: Model on the CPU in evaluation mode; further arguments as for `export`.

    Raises:
        ExportError: The file cannot be written, or onnxruntime gives other results than PyTorch.
    """
    named = AnsweringModel(model, task).eval()
    outputs = list(onnx_metadata.outputs)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with weights.replacing(path, proto) as partial:
            weights.save(with_properties(proto, to_properties(onnx_metadata, extra)), partial)
            try:
                if task is None or isinstance(task, Classification):
                    return _verify(named, partial, data, path, labelled=labelled)
                return _verify_values(named, partial, data, path, outputs)
            except ExportError as error:
                raise with_decision(error, named, example_of(data)) from None
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from None


def with_decision(error: ExportError, model: nn.Module, example: Tensor) -> ExportError:
    """Returns the error of a file that was refused, with the line of the user's code that may be why, if there is one.

    A file holds the outcome of ``if mask.any():`` for the samples that the model was exported with, not the decision.

    Args:
        error: Error that says what is wrong with the file.
        model: Model that was exported, on the CPU in evaluation mode.
        example: Samples that it was exported with, [2, ...].
    """
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        try:
            torch.jit.trace(model, example, check_trace=False, strict=False)  # type: ignore[no-untyped-call]
        except Exception:  # whatever the user's code and the tracer raise; there is an error already
            return error
    for found in caught:
        if found.category.__name__ == "TracerWarning" and _DECIDES.match(str(found.message)):
            if "site-packages" in found.filename or found.filename.startswith(("<", _OURS)):
                continue
            place = f"{Path(found.filename).name}, line {found.lineno}"
            return ExportError(
                f"{error}; its code decides by values or sizes of tensors ({place}), and a file holds one decision: "
                "compute both and choose by torch.where"
            )
    return error


def example_of(data: Dataset) -> Tensor:
    """Returns the samples that a model is exported with, [2, ...]: an exporter would take a batch of one as fixed."""
    return data.batch(torch.arange(2) % len(data))[0]


class AnsweringModel(nn.Module):
    """Wraps a model so that its argument is called ``input``, as the graph's input, and its outputs are the task's.

    Args:
        model: Model that is wrapped.
        task: What its outputs mean; None for classification.
    """

    def __init__(self, model: nn.Module, task: LearningTask | None) -> None:
        super().__init__()
        self.model = model
        self.task = task

    def forward(self, input: Tensor) -> Any:
        """Returns what the task answers: a tensor, or several in the order of their names."""
        with RewrittenCalls():
            outputs = self.model(input)
            if self.task is None:
                return outputs
            answers = tuple(self.task.predict(outputs, input).values())
            return answers[0] if len(answers) == 1 else answers


@torch.no_grad()
def output_names(model: nn.Module, data: Dataset, task: LearningTask | None) -> tuple[str, ...]:
    """Returns the names of the outputs of an exported model.

    Args:
        model: Model on the CPU.
        data: Samples on the CPU.
        task: What the outputs mean; None for classification.
    """
    if task is None:
        return (OUTPUT,)
    model.eval()
    x, _ = data.batch(slice(0, 1))
    return tuple(task.predict(model(x), x))


def graph_of(
    model: nn.Module,
    example: Tensor,
    outputs: list[str],
    of: str,
    opset: int = OPSET,
    *,
    weights: DetachedWeights,
) -> onnx.ModelProto:
    """Exports a model to ONNX, in memory and unchecked; what the exporters print, log or warn of is suppressed.

    Args:
        model: Model on the CPU, in evaluation mode, with one argument that is called ``input``.
        example: Two samples, [2, ...].
        outputs: Names of the outputs.
        of: What is exported, for messages.
        opset: ONNX opset of the graph.
        weights: Takes the weights where they are too many for one file; the graph then refers to them.

    Raises:
        ExportError: No exporter takes the model, or it gives another opset.
    """
    try:
        import onnx  # noqa: F401, PLC0415  # an extra of the coordinator
        import onnxscript  # noqa: F401, PLC0415  # the exporter needs it
    except ModuleNotFoundError as error:
        raise ExportError(f"exporting needs {error.name}: {install_command('coordinator')}") from None
    with _silenced():
        try:
            proto = _export_by_graph(model, example, outputs, opset, weights)
        except Exception as first:  # the exporter raises whatever its many parts raise
            try:
                proto = _export_otherwise(model, example, outputs, opset, weights)
            except Exception:
                reason = runtime_reason(first)
                raise ExportError(f"{of}: PyTorch cannot export this model to ONNX: {reason}") from first
    # The exporter stores source lines and module paths of this machine, which must not reach users.
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.metadata_props[:]
    return proto


def with_properties(proto: onnx.ModelProto, properties: Mapping[str, str]) -> onnx.ModelProto:
    """Gives a model the metadata that stand in its file, and no others; returns the same object.

    It then asks for no newer onnxruntime than its operators do: exporters write the newest version of the format, and
    onnxruntime's tools import operators that no node uses. Its graph gets the form that most other readers take.
    """
    import onnx  # noqa: PLC0415  # an extra of the coordinator

    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, dict(properties))
    proto.producer_name = "fedlp-edge"
    used = {"", *(node.domain for node in nodes_of(proto))}
    imports = [entry for entry in proto.opset_import if entry.domain in used]
    imports = [onnx.helper.make_opsetid(entry.domain, entry.version) for entry in imports]
    del proto.opset_import[:]
    proto.opset_import.extend(imports)
    proto.ir_version = onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True)
    make_plain(proto)
    return proto


def nodes_of(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Returns all nodes of a model, those of its subgraphs and functions included."""
    graphs = [proto.graph]
    nodes = [node for function in proto.functions for node in function.node]
    while graphs:
        nodes.extend(graphs.pop().node)
        while nodes:
            node = nodes.pop()
            graphs.extend(graph for entry in node.attribute for graph in (entry.g, *entry.graphs) if graph.node)
            yield node


def _export_by_graph(
    model: nn.Module, example: Tensor, outputs: list[str], opset: int, weights: DetachedWeights
) -> onnx.ModelProto:
    with kept_operator_table():
        program = torch.onnx.export(
            model,
            (example,),
            input_names=[INPUT],
            output_names=outputs,
            opset_version=opset,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ExportError("the exporter returned nothing")
    weights.detach(program.model)
    proto = program.model_proto
    given = opset_of(proto)  # it converts to older ones where it can
    if given != opset:
        raise ExportError(f"its operators need opset {given}, and {opset} was asked for: say --opset {given}")
    return proto


def _export_otherwise(
    model: nn.Module, example: Tensor, outputs: list[str], opset: int, weights: DetachedWeights
) -> onnx.ModelProto:
    """Exports a model that the graph exporter does not take as it is.

    Raises:
        Exception: No other way works either; whatever the last one raises.
    """
    if any(parametrize.is_parametrized(part) for part in model.modules()):
        with contextlib.suppress(Exception), _parametrizations_computed(model):
            return _export_by_graph(model, example, outputs, opset, weights)
    if exceeds_a_file(model):
        raise ExportError("the older exporter makes one message of graph and weights")
    return _export_by_tracing(model, example, outputs, opset)


@contextmanager
def _parametrizations_computed(model: nn.Module) -> Iterator[None]:
    """Has weights that are the result of a computation, such as orthogonal ones, stand in the graph as constants.

    Runtimes lack operators that compute them (a matrix exponential), and in evaluation they do not change.
    """
    with parametrize.cached(), torch.no_grad():
        for part in model.modules():
            for name in getattr(part, "parametrizations", {}) if parametrize.is_parametrized(part) else ():
                getattr(part, name)
        yield


def opset_of(proto: onnx.ModelProto) -> int:
    """Returns the version of ONNX's own operators that a model uses."""
    return next(int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def _export_by_tracing(model: nn.Module, example: Tensor, outputs: list[str], opset: int) -> onnx.ModelProto:
    """Exports with the older, tracing exporter, for models that the graph exporter does not support."""
    import onnx  # noqa: PLC0415

    buffer = io.BytesIO()
    torch.onnx.export(
        model,
        (example,),
        buffer,  # type: ignore[arg-type]  # takes any binary file, whatever its annotation says
        input_names=[INPUT],
        output_names=outputs,
        opset_version=min(opset, LAST_TRACED_OPSET),
        dynamic_axes={name: {0: "batch"} for name in (INPUT, *outputs)},
        dynamo=False,
        verbose=False,
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _verify(model: nn.Module, file: Path, data: Dataset, path: Path, *, labelled: bool) -> Verified:
    session = open_session(file, path)
    size = min(_BATCH, max(2, _BATCH_VALUES // max(1, math.prod(data.input_shape))))
    # The samples are spread evenly over the split, so that every class is among them. Running some of them one by one,
    # too, finds graphs with a fixed batch size.
    compared = torch.linspace(0, len(data) - 1, min(_COMPARED, len(data))).long()
    batches = [data.batch(indices)[0] for indices in [*torch.split(compared, size), *compared[:_SINGLES, None]]]
    with torch.no_grad():
        expected = [model(x).numpy() for x in batches]
    got = [_run(session, x.numpy(), path) for x in batches]
    for here, there in zip(got, expected, strict=True):
        if here.shape != there.shape:
            raise ExportError(f"{path.name} gives {here.shape} in onnxruntime where PyTorch gives {there.shape}")
    ours, theirs = np.concatenate(expected), np.concatenate(got)
    parity = compare_logits(ours, theirs)
    if parity.problem is not None:
        parity = compare_logits(ours, theirs, own_error(model, batches, ours))
    if parity.problem is not None:
        raise ExportError(f"{path.name} {parity.problem}")
    if not labelled:
        return Verified(path=path, max_abs_diff=parity.max_abs_diff, accuracy=None)
    correct = 0
    for start in range(0, len(data), size):
        x, y = data.batch(slice(start, start + size))
        correct += int((_run(session, x.numpy(), path).argmax(axis=1) == y.numpy()).sum())
    return Verified(path=path, max_abs_diff=parity.max_abs_diff, accuracy=correct / len(data))


def _verify_values(model: nn.Module, file: Path, data: Dataset, path: Path, names: list[str]) -> Verified:
    """Checks a file whose outputs are numbers, none of which is the answer because it is the largest."""
    session = open_session(file, path)
    size = min(_BATCH, max(2, _BATCH_VALUES // max(1, math.prod(data.input_shape))))
    compared = torch.linspace(0, len(data) - 1, min(_COMPARED, len(data))).long()
    worst = 0.0
    for indices in [*torch.split(compared, size), *compared[:_SINGLES, None]]:
        x, _ = data.batch(indices)
        with torch.no_grad():
            answers = model(x)
        try:
            found = session.run(names, {INPUT: x.numpy()})
        except Exception as error:
            raise ExportError(f"{path.name} is refused: onnxruntime does not run it: {runtime_reason(error)}") from None
        for ours, theirs in zip(answers if isinstance(answers, tuple) else (answers,), found, strict=True):
            if tuple(ours.shape) != theirs.shape:
                raise ExportError(
                    f"{path.name} gives {theirs.shape} in onnxruntime where PyTorch gives {tuple(ours.shape)}"
                )
            if not ours.is_floating_point():  # such as whether a score is above the threshold, which is compared itself
                continue
            parity = compare_logits(ours.float().numpy().reshape(-1, 1), theirs.astype(np.float32).reshape(-1, 1))
            if parity.problem is not None:
                raise ExportError(f"{path.name} {parity.problem}")
            worst = max(worst, parity.max_abs_diff)
    return Verified(path=path, max_abs_diff=worst, accuracy=None)


_LOAD = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.intra_op_num_threads = 1
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


def check_loads(file: Path, path: Path) -> None:
    """Loads an ONNX file in a process of its own first, which native code may crash without ending this one.

    onnxruntime 1.32 does so with vision transformers whose softmax is in half precision. Errors that it tells are left
    to who opens the file here.

    Args:
        file: File to load.
        path: Path whose name stands in messages.

    Raises:
        ExportError: onnxruntime crashes.
    """
    command = [sys.executable, "-P", "-c", _LOAD, str(file)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if name := signal_of(done.returncode):
        raise ExportError(
            f"{path.name} is refused: onnxruntime crashes when it loads it ({name}); use another precision"
        )


def open_session(file: Path, path: Path) -> Any:
    """Opens an ONNX file in onnxruntime.

    Args:
        file: File to open.
        path: Path whose name stands in messages.

    Raises:
        ExportError: onnxruntime is not installed, or does not load the file.
    """
    try:
        import onnxruntime  # noqa: PLC0415
    except ModuleNotFoundError:
        raise ExportError(f"checking an export needs onnxruntime: {install_command('coordinator')}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is told by the exception
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ExportError(f"{path.name} is refused: onnxruntime does not load it: {runtime_reason(error)}") from None


def _run(session: Any, x: npt.NDArray[np.float32], path: Path) -> npt.NDArray[np.float32]:
    try:
        (logits,) = session.run([OUTPUT], {INPUT: x})
    except Exception as error:
        raise ExportError(f"{path.name} is refused: onnxruntime does not run it: {runtime_reason(error)}") from None
    return np.asarray(logits, dtype=np.float32)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Suppresses the output of the exporters, which report progress, warn and dump graphs, partly from C++."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            _descriptors_closed(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _descriptors_closed() -> Iterator[None]:
    """Redirects what native code writes to standard output and standard error to /dev/null."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # the stream is missing or closed
            stream.flush()
    with contextlib.ExitStack() as stack:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, nowhere)
        for number in (1, 2):
            try:
                original = os.dup(number)
            except OSError:  # a service may run without this descriptor
                continue
            os.dup2(nowhere, number)
            stack.callback(os.close, original)
            stack.callback(os.dup2, original, number)
        # Output in C buffers must be flushed to /dev/null before the descriptors are restored.
        if (flush := c_function("fflush")) is not None:
            stack.callback(flush, None)
        yield
