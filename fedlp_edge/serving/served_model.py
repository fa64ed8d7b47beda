"""This module keeps an exported model loaded, answers requests, and loads the model again when its file is replaced."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from fedlp_edge.core.metrics.serving_report import ServingReport
from fedlp_edge.errors import DataError, ExportError
from fedlp_edge.learning.export.external.weights_file import weights_file_of
from fedlp_edge.learning.export.inference import Classifier, Prediction
from fedlp_edge.learning.export.inputs.json_samples import json_sample
from fedlp_edge.learning.export.score_histogram import PROBABILITY_EDGES, has_probabilities
from fedlp_edge.serving.answer_statistics import AnswerStatistics
from fedlp_edge.serving.live_inputs import LiveInputs
from fedlp_edge.serving.serving_record import ServingRecorder
from fedlp_edge.system.files import link_target
from fedlp_edge.system.portable.temporary_file import temporary_file

log = logging.getLogger("fedlp.serve")

MAX_REQUEST_BYTES = 64 * 2**20
"""Largest request, which is held in memory."""

JSON = "application/json"
ARRAY = "application/x-npy"


PICTURE = "image/*"

_UNTOLD = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Types of requests that do not say what they hold; the last is what curl sends by default."""

_LABELLED = ("classification", "multi-label", "anomaly")
"""Tasks whose answers are labels, which can be counted."""

Version = tuple[int, ...]
"""What tells one file at a path from another one: inode, size and time."""

_ARRAY_HEAD = b"\x93NUMPY"


def type_of(body: bytes) -> str:
    """Returns the MIME type of a request that does not name one, by its first bytes."""
    if body.startswith(_ARRAY_HEAD):
        return ARRAY
    return JSON if body.lstrip()[:1] in (b"[", b"{") else PICTURE


@dataclass(frozen=True)
class _Loaded:
    """A model as it was loaded.

    Attributes:
        model: The model.
        version: Inode, size and time of its file, and of its file of weights.
        statistics: What it has answered.
    """

    model: Classifier
    version: Version
    statistics: AnswerStatistics


class ServedModel:
    """Answers requests with the model in a file; may be called from several threads.

    Args:
        path: ONNX file, or a link to one. A file that is put in its place is used from the next request on; if it is
            no usable model, the one before it goes on answering.
        threads: Threads of onnxruntime; 0 for its default.

    Raises:
        ExportError: The file is no usable model.
        OperatorError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._path = path
        self._threads = threads
        self._lock = threading.Lock()
        self._refused_version: Version | None = None
        self._read_version: Version = ()
        self._weights: Path | None = None
        self._recorder = ServingRecorder(path)
        self._live_inputs = LiveInputs(path.parent)
        self._loaded = self._load()

    def answer(self, body: bytes, content_type: str) -> Prediction:
        """Answers one request.

        Args:
            body: A picture in any format that ``fedlp infer`` reads, a ``.npy`` file of one sample, or the numbers of
                one sample as JSON, see `json_sample`.
            content_type: MIME type: `JSON`, `ARRAY`, or anything else for a picture; empty to tell by the first bytes.

        Raises:
            DataError: The body is not a sample that the model takes.
            ExportError: onnxruntime cannot run the model.
        """
        loaded = self._current()
        begun = time.perf_counter()
        kind = content_type.partition(";")[0].strip().lower()
        kind = kind if kind not in _UNTOLD else type_of(body)
        try:
            prediction = _predict(loaded.model, body, kind)
        except DataError:
            loaded.statistics.refused()
            raise
        except ExportError as error:  # not the input's fault
            self._recorder.failed(str(error))
            raise
        self._recorder.answered()
        if kind != JSON:
            self._live_inputs.add(body)
        label = prediction.label if loaded.model.onnx_metadata.task in _LABELLED else ""
        loaded.statistics.answered(label, prediction.score, time.perf_counter() - begun)
        return prediction

    def about(self) -> dict[str, Any]:
        """Returns the metadata of the model that answers now, for people and programs."""
        metadata: dict[str, Any] = msgspec.to_builtins(self._current().model.onnx_metadata)
        return metadata

    def report(self) -> ServingReport:
        """Returns what the model has answered since it was loaded."""
        return self._current().statistics.report()

    def _current(self) -> _Loaded:
        with self._lock:
            try:
                version = self._version()
            except OSError:
                return self._loaded  # the file is gone, or is being replaced
            if version not in (self._loaded.version, self._refused_version):
                try:
                    self._loaded = self._load()
                    log.info("loaded the new %s", self._path)
                except ExportError as error:
                    self._refused_version = version
                    log.warning("the new file is not used: %s", error)
            return self._loaded

    def _load(self) -> _Loaded:
        try:
            version = self._version()
        except OSError:
            version = ()  # the model says that its file is missing
        self._recorder.starts()
        try:
            model = Classifier(self._path, self._threads)
            model.try_zeros()  # a file that does not run is found before it replaces one that does
        except ExportError as error:
            self._recorder.failed(str(error))
            raise
        metadata = model.onnx_metadata
        edges = PROBABILITY_EDGES if has_probabilities(metadata.task) else ()
        statistics = AnswerStatistics(
            Path(link_target(self._path) or self._path.resolve()).name, metadata.confidence, edges
        )
        return _Loaded(model, version, statistics)

    def _version(self) -> Version:
        """Returns which file stands at the path, and which file of weights beside it, that may come later."""
        version = _version_of(self._path)
        if version != self._read_version:
            self._read_version = version
            weights = weights_file_of(self._path)
            self._weights = None if weights is None else self._path.with_name(Path(weights.name).name)
        if self._weights is None:
            return version
        return (*version, *(_version_of(self._weights) if self._weights.is_file() else ()))


def _version_of(path: Path) -> Version:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _predict(model: Classifier, body: bytes, content_type: str) -> Prediction:
    if not body:
        raise DataError("the request is empty: send a picture, a .npy file or a JSON list of numbers")
    if content_type == JSON:
        return replace(model.answer(json_sample(body, model.onnx_metadata, "the request")), file="")
    # The reader of pictures works on files, so that all pictures go the same way wherever they come from.
    suffix = ".npy" if content_type == ARRAY else ".picture"
    with temporary_file(body, "request-", suffix) as path:
        try:
            prediction = model.predict(path)
        except DataError as error:
            raise DataError(str(error).replace(str(path), "the request")) from None
    return replace(prediction, file="")
