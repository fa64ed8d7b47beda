"""This module makes and checks self-tests of exported models: a few inputs, and the answers that the model must give.

A device that computes something else than the machine that tested the model, because of its processor, its runtime or
a damaged file, finds out before the model answers anybody. A self-test is an ``.npz`` file with ``input`` as the graph
takes it, an array for each output by name, and ``tolerance``, the most that an answer may differ, relative to the
largest expected value. The module needs onnxruntime and numpy alone.
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedlp_edge.errors import DataError, ExportError, FedLPError, OperatorError
from fedlp_edge.learning.export.runtime_errors import runtime_reason
from fedlp_edge.system.files import write_file
from fedlp_edge.system.loading.install_command import install_command

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.25}
"""Most relative difference of an answer by precision: kernels of int8 saturate on some processors only."""

SUFFIX = ".selftest.npz"
"""Suffix of the file beside ``NAME.onnx``, in place of ``.onnx``."""

SELF_TEST_SAMPLES = 8
"""Number of inputs of a self-test."""

# A sample whose score lies beside a threshold may fall on the other side of it on another processor.
_MAX_DECIDED_OTHERWISE = 0.25

_SEED = 20231128
_NUMPY_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_MAX_ARRAY_BYTES = 1 << 28

Arrays = Mapping[str, npt.NDArray[Any]]


def self_test_path(model: Path) -> Path:
    """Returns where the self-test of an ONNX file stands."""
    return model.with_name(model.name.removesuffix(".onnx") + SUFFIX)


def make_self_test(model: Path, tolerance: float, inputs: npt.NDArray[Any] | None = None) -> bytes:
    """Returns a self-test as the bytes of an ``.npz`` file.

    Args:
        model: Path of the ONNX file.
        tolerance: Most relative difference of an answer.
        inputs: Inputs as the graph takes them, [N, ...]; made ones by default.

    Raises:
        ExportError: The model cannot be run, or computes numbers that are not finite.
        OperatorError: onnxruntime is not installed.
    """
    session = _session(model)
    entry = session.get_inputs()[0]
    if inputs is not None:
        answers = _run(session, entry, inputs)
    else:
        inputs = made_values(entry)
        try:
            answers = _run(session, entry, inputs)
        except ExportError:  # token ids: 0 and 1 are in every vocabulary
            inputs = (inputs > 0).astype(inputs.dtype)
            answers = _run(session, entry, inputs)
    if not all(np.isfinite(answer).all() for answer in answers.values() if answer.dtype.kind == "f"):
        raise ExportError(f"{model.name} computes numbers that are not finite")
    arrays: dict[str, Any] = {f"output.{name}": answer for name, answer in answers.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, input=inputs, tolerance=np.float64(tolerance), **arrays)
    return buffer.getvalue()


def check_self_test(model: Path, self_test: Path) -> str:
    """Returns what is wrong with a model's answers, in words that follow "the model"; empty if nothing is.

    Raises:
        DataError: The self-test cannot be read.
        ExportError: The model cannot be run.
        OperatorError: onnxruntime is not installed.
    """
    arrays = _read(self_test)
    session = _session(model)
    entry = session.get_inputs()[0]
    wanted = {name.removeprefix("output."): array for name, array in arrays.items() if name.startswith("output.")}
    if not wanted:
        raise DataError(f"{self_test.name} holds no answers")
    answers = _run(session, entry, arrays["input"])
    tolerance = float(arrays["tolerance"])
    alike = np.ones(len(arrays["input"]), dtype=bool)
    # Decisions come first: a sample that stops at another exit has other scores, too.
    for name, expected in sorted(wanted.items(), key=lambda output: output[1].dtype.kind == "f"):
        found = answers.get(name)
        if found is None or found.shape != expected.shape:
            return f"has no output {name} of shape {list(expected.shape)}"
        if expected.dtype.kind != "f":
            alike &= (found == expected).reshape(len(expected), -1).all(axis=1)
            if np.count_nonzero(~alike) > _MAX_DECIDED_OTHERWISE * len(alike):
                return f"answers its self-test otherwise in {name}"
            continue
        if not np.isfinite(found).all():
            return f"computes numbers that are not finite in {name}"
        difference = np.abs(found[alike].astype(np.float64) - expected[alike].astype(np.float64))
        scale = max(float(np.abs(expected).max(initial=0.0)), 1e-6)
        worst = float(difference.max(initial=0.0)) / scale
        if worst > tolerance:
            far = f"{name} differs by {worst:.1%} of its scale, {tolerance:.1%} is allowed"
            return f"answers its self-test otherwise: {far}"
    return ""


def made_values(entry: Any) -> npt.NDArray[Any]:
    """Returns random inputs for an input of a graph, which are the same every time."""
    shape = (SELF_TEST_SAMPLES, *(size if isinstance(size, int) and size > 0 else 1 for size in entry.shape[1:]))
    if isinstance(entry.shape[0], int):
        shape = (entry.shape[0], *shape[1:])
    kind = _NUMPY_TYPES.get(entry.type)
    if kind is None:
        raise ExportError(f"the input {entry.name} is a {entry.type}, for which no values can be made")
    draw = np.random.default_rng(_SEED)
    if np.dtype(kind).kind in "iu":
        return draw.integers(0, 256 if kind is np.uint8 else 2, shape).astype(kind)
    return draw.standard_normal(shape).astype(kind)


def _session(model: Path) -> Any:
    try:
        import onnxruntime  # noqa: PLC0415  # an extra
    except ModuleNotFoundError:
        raise OperatorError(f"a self-test needs onnxruntime: {install_command('inference')}") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ExportError(f"does not load in onnxruntime: {runtime_reason(error)}") from None


def _run(session: Any, entry: Any, inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    # One by one: a file with early exits takes one, and what quantises as it goes answers a batch otherwise.
    step = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    batches = [inputs[start : start + step] for start in range(0, len(inputs), step)]
    try:
        found = [session.run(names, {entry.name: batch}) for batch in batches]
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        raise ExportError(f"does not run in onnxruntime: {runtime_reason(error)}") from None
    return {name: np.concatenate([np.atleast_1d(row[number]) for row in found]) for number, name in enumerate(names)}


def _read(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_ARRAY_BYTES:
                raise DataError(f"{path.name} holds more than {_MAX_ARRAY_BYTES >> 20} MiB")
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, npt.NDArray[Any]] = dict(stored)
        if arrays["input"].ndim < 1 or arrays["tolerance"].size != 1:
            raise DataError(f"{path.name} is no self-test")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path.name} is no self-test: {error}") from None
    return arrays


def main() -> None:
    """Makes the self-test of the file that the command line names: ``MODEL.onnx OUT.npz PRECISION``.

    A process of its own, for services that do not load onnxruntime.
    """
    model, path, precision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    try:
        write_file(path, [make_self_test(model, TOLERANCES[precision])])
    except FedLPError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
