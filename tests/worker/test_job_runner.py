"""The jobs of a run for every task, from arrays to an ONNX file that answers in the task's words."""

from __future__ import annotations

import re

import numpy as np
import onnxruntime
import pytest
import torch

from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import DataAwayError, OperatorError
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.learning.export.metadata import from_properties
from fedlp_edge.worker import job_runner
from fedlp_edge.worker.job_runner import JobRunner
from fedlp_edge.worker.jobs import (
    Build,
    Built,
    DeviceMeasurement,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    Failed,
    Measure,
    Train,
    Trained,
    WorkerOptions,
)

RNG = np.random.default_rng(3)
X = RNG.normal(size=(64, 2, 8)).astype(np.float32)
MEAN = X.mean(axis=(1, 2))
TASKS = {
    "classification": (MEAN > 0).astype(np.int64),
    "multi-label": np.stack([MEAN > 0, X[:, 0, 0] > 0, X[:, 1, 0] > 0], axis=1).astype(np.int64),
    "regression": np.stack([20 + 5 * MEAN, 1000 * X[:, 0, 0]], axis=1),
    "anomaly": None,
}
OUTPUTS = {"classification": 1, "multi-label": 3, "regression": 2, "anomaly": 0}
ONNX_OUTPUTS = {
    "classification": {"logits": (3, 2)},
    "multi-label": {"probabilities": (3, 3)},
    "regression": {"values": (3, 2)},
    "anomaly": {"score": (3,), "anomalous": (3,), "reconstruction": (3, 2, 8)},
}


WORDS = {
    "classification": "0|1",
    "multi-label": "none|[012](, [012])*",
    "regression": r"level [-\d.]+ cm, pressure [-\d.]+ Pa",
    "anomaly": "normal|anomalous",
}


@pytest.fixture(scope="module")
def runner():
    return JobRunner(WorkerOptions(device="cpu"))


def settings(task, **changes):
    values = {"name": "small-cnn", "input": (2, 8), "classes": OUTPUTS[task] or 10, "task": task}
    if task == "regression":
        y = TASKS[task]
        values |= {"target_units": ("cm", "Pa"), "class_names": ("level", "pressure")} if not changes else {}
        values |= {"target_mean": tuple(y.mean(axis=0).tolist()), "target_std": tuple(y.std(axis=0).tolist())}
    return ModelSettings(**values | changes)


def data_of(task, tmp_path):
    y = TASKS[task] if TASKS[task] is not None else np.zeros(len(X), np.int64)
    np.savez(tmp_path / "data.npz", x=X, y=y)
    return f"npz:{tmp_path / 'data.npz'}"


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_judged_and_exported(task, runner, tmp_path):
    data, model, state = data_of(task, tmp_path), settings(task), str(tmp_path / "state.safetensors")
    built = runner.run(Build(model=model, seed=1, state_path=state, steps=True, data=data))
    assert isinstance(built, Built), built
    full = built.blueprint.full_depth
    trained = runner.run(
        Train(
            model=model, depth=full, state_paths=(state,), freeze=False, seed=5, head_seed=6, data=data,
            sent={unit.id: tuple(t.name for t in unit.tensors) for unit in built.blueprint.exchanged_by(full)},
            training=TrainingSettings(epochs=2, compute="float32"), delta_dir=str(tmp_path / "deltas"),
        )
    )  # fmt: skip
    assert isinstance(trained, Trained), trained
    judged = runner.run(Evaluate(model=model, state_path=state, depths=(1, full), data=data))
    assert isinstance(judged, Evaluated), judged
    assert judged.scores.metrics[full]["loss"] == judged.scores.loss[full]

    exported = runner.run(Export(model=model, state_paths=(state,), depths=(full,), data=data, directory=str(tmp_path)))
    assert isinstance(exported, Exported), exported
    assert exported.refused == ()

    session = onnxruntime.InferenceSession(str(tmp_path / exported.models[0].file))
    answers = session.run(None, {"input": X[:3]})
    assert {out.name: made.shape for out, made in zip(session.get_outputs(), answers, strict=True)} == ONNX_OUTPUTS[
        task
    ]
    metadata = from_properties(session.get_modelmeta().custom_metadata_map, "file")
    assert (metadata.task, metadata.outputs) == (task, tuple(ONNX_OUTPUTS[task]))
    np.save(tmp_path / "sample.npy", X[0])
    said = Classifier(tmp_path / exported.models[0].file).predict(tmp_path / "sample.npy")
    assert re.fullmatch(WORDS[task], said.label), said
    if task == "regression":  # an untrained model answers about the mean, in the units of the targets
        assert np.abs(answers[0].mean(axis=0) - model.target_mean)[0] < 20
    if task == "anomaly":
        assert (answers[1] == (answers[0] >= np.float32(metadata.threshold))).all()


def test_a_device_tells_the_scale_of_its_targets_before_it_knows_the_task(runner, tmp_path):
    measured = runner.run(Measure(data=data_of("regression", tmp_path), seconds=0.01))
    assert measured.data.target_kind == "values"
    assert measured.data.targets.mean == pytest.approx(TASKS["regression"].mean(axis=0).tolist(), rel=1e-3)


@pytest.mark.parametrize(
    ("task", "classes", "problem"),
    [
        ("regression", 3, r"the samples have 2 targets but the model has 3 outputs: set \[model\] classes = 2"),
        ("multi-label", 2, "the samples have 3 labels but the model has 2 outputs"),
    ],
)
def test_a_model_of_another_number_of_outputs_is_refused(task, classes, problem, runner, tmp_path):
    model = settings(task, classes=classes, target_mean=(), target_std=())
    failed = runner.run(Build(model=model, steps=True, data=data_of(task, tmp_path)))
    assert isinstance(failed, Failed)
    assert re.search(problem, failed.reason)


def fails_once(error):
    """A job that a GPU cannot do; the second time, on the CPU, it gives a measurement."""
    answers = iter([error, DeviceMeasurement(samples=0, training_macs_per_second=1.0, processor="cpu", idle_memory=1)])

    def do(job, resources):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return do


LOST = RuntimeError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`")
ROUND = Train(
    model=ModelSettings(name="small-cnn", input=(2, 8), classes=2), depth=1, state_paths=(), sent={}, freeze=False,
    training=TrainingSettings(), seed=1, head_seed=1, data="digits", delta_dir="",
)  # fmt: skip


def runner_on_gpu(monkeypatch, device):
    runner = JobRunner(WorkerOptions(device=device))
    runner.resources._device = torch.device("cuda", 0)
    for job in ("train", "measure"):
        monkeypatch.setattr(job_runner, job, fails_once(LOST))
    return runner


def test_round_in_which_the_gpu_fails_is_trained_by_another_process(monkeypatch):
    runner = runner_on_gpu(monkeypatch, "auto")
    reason = "the CUDA device failed (CUDA error: unspecified launch failure): training on the CPU from now on"
    assert runner.run(ROUND) == Failed(kind="worker", reason=reason, without_gpu=True)
    assert runner.needs_new_process


def test_gpu_that_fails_behind_an_error_of_the_model_is_to_blame_and_not_the_model(monkeypatch):
    runner = runner_on_gpu(monkeypatch, "auto")
    wrapped = OperatorError("the model fails in its second layer")
    wrapped.__cause__ = LOST
    monkeypatch.setattr(job_runner, "train", fails_once(wrapped))
    assert runner.run(ROUND).without_gpu
    runner = runner_on_gpu(monkeypatch, "auto")
    monkeypatch.setattr(job_runner, "train", fails_once(OperatorError("no kernel of CUDA for float8")))
    assert not runner.run(ROUND).without_gpu


def test_process_whose_gpu_fails_elsewhere_ends_after_it_has_done_the_job_on_the_cpu(monkeypatch):
    runner = runner_on_gpu(monkeypatch, "auto")
    assert runner.run(Measure()).processor == "cpu"
    assert (runner.resources.on_cuda, runner.needs_new_process) == (False, True)


def test_gpu_that_is_asked_for_and_fails_is_looked_for_anew_by_another_process(monkeypatch):
    runner = runner_on_gpu(monkeypatch, "cuda")
    reason = "the CUDA device does not work (CUDA error: unspecified launch failure): say --device cpu"
    assert runner.run(ROUND) == Failed(kind="worker", reason=reason)
    assert runner.needs_new_process


def test_round_whose_data_are_away_for_a_moment_does_not_end_the_part_of_the_device(monkeypatch):
    def away(*_):
        raise DataAwayError("/share: 9 of 20 pictures cannot be read any more")

    for job in ("train", "measure"):
        monkeypatch.setattr(job_runner, job, away)
    runner = JobRunner(WorkerOptions(device="cpu"))
    assert runner.run(ROUND).kind == "worker"
    assert runner.run(Measure()).kind == "data"
