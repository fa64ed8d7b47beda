"""The jobs after a round, in this process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.worker.build_jobs import build
from fedlp_edge.worker.evaluate_jobs import check_export, evaluate, export
from fedlp_edge.worker.jobs import Build, CheckExport, Evaluate, Export, WorkerOptions
from fedlp_edge.worker.resources import WorkerResources
from tests.two_layers import NAME, PERSONAL, SETTINGS, VALUES, write_samples

SAMPLES = (1.0, 2.0, -1.0, 3.0)


@pytest.fixture
def resources() -> WorkerResources:
    return WorkerResources(WorkerOptions(device="cpu", allow_models=(NAME,)))


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write_samples(tmp_path / "samples.npz", SAMPLES, SAMPLES)


def state(path: Path, **changes: list[list[float]]) -> str:
    """A file of a model whose first layer tells the sign of a sample, which is its class."""
    rows = VALUES | {"L1.weight": [[1.0], [-1.0]]} | {name.replace("_", "."): value for name, value in changes.items()}
    save_file({name: np.array(value, np.float32) for name, value in rows.items()}, path)
    return str(path)


def test_every_exit_is_judged_alone_and_together(tmp_path: Path, data: str, resources: WorkerResources) -> None:
    path = state(tmp_path / "state.safetensors", H2_weight=[[0.0, 1.0], [1.0, 0.0]])
    judged = evaluate(Evaluate(model=SETTINGS, state_path=path, depths=(1, 2), data=data), resources)
    assert (judged.scores.accuracy, judged.samples) == ({1: 1.0, 2: 0.0}, 4)
    assert set(judged.scores.ensemble) == {1, 2}
    assert judged.scores.sums[1]["correct"] == (3.0, 1.0)
    assert judged.warning == ""


def test_depth_that_there_is_not_is_refused(tmp_path: Path, data: str, resources: WorkerResources) -> None:
    path = state(tmp_path / "state.safetensors")
    with pytest.raises(ModelError) as caught:
        evaluate(Evaluate(model=SETTINGS, state_path=path, depths=(3,), data=data), resources)
    assert str(caught.value) == f"{NAME} has depths 1 to 2, not 3"


def test_exported_file_is_proved_and_answers_like_the_model(
    tmp_path: Path, data: str, resources: WorkerResources
) -> None:
    path = state(tmp_path / "state.safetensors")
    made = export(
        Export(model=SETTINGS, state_paths=(path,), depths=(2,), data=data, directory=str(tmp_path / "onnx")),
        resources,
    )
    (model,) = made.models
    assert (model.depth, model.accuracy, made.refused) == (2, 1.0, ())
    assert model.max_abs_diff < 1e-5
    file = tmp_path / "onnx" / model.file
    check = CheckExport(model=SETTINGS, depth=2, state_paths=(path,), file=str(file), data=data, holdout=0.0)
    found = check_export(check, resources)
    assert (found.samples, found.agreement, found.problem, found.differs) == (4, 1.0, "", False)
    other = state(tmp_path / "other.safetensors", L1_weight=[[-1.0], [1.0]])
    differing = check_export(msgspec.structs.replace(check, state_paths=(other,)), resources)
    assert differing.differs
    assert differing.problem.startswith(model.file)


def test_personal_head_is_exported_by_its_device_alone(tmp_path: Path, data: str, resources: WorkerResources) -> None:
    path = state(tmp_path / "state.safetensors")
    job = Export(
        model=PERSONAL, state_paths=(path,), depths=(1,), data=data, split="train", directory=str(tmp_path / "onnx")
    )
    with pytest.raises(ModelError) as caught:
        export(job, resources)
    assert str(caught.value) == "the head of depth 1 is personal: only the devices of that depth can export it"


def test_anomaly_detector_needs_normal_samples(tmp_path: Path, resources: WorkerResources) -> None:
    detector = ModelSettings(name="mlp", input=(4,), task="anomaly")
    path = tmp_path / "anomaly.safetensors"
    build(Build(model=detector, state_path=str(path)), resources)
    job = Export(model=detector, state_paths=(str(path),), depths=(1,), data="", directory=str(tmp_path / "onnx"))
    made = export(job, resources)
    assert made.models == ()
    (refused,) = made.refused
    assert refused.reason.startswith(
        "the threshold of an anomaly detector needs normal samples to be measured on: set [data] evaluate"
    )


def test_exported_file_answers_with_the_mean_of_exits_that_all_devices_teach(
    tmp_path: Path, data: str, resources: WorkerResources
) -> None:
    settings = msgspec.structs.replace(SETTINGS, exits="all")
    path = state(tmp_path / "state.safetensors", H1_weight=[[1.0, 0.0], [0.0, 1.0]], H2_weight=[[3.0, 0.0], [0.0, 3.0]])
    made = export(
        Export(model=settings, state_paths=(path,), depths=(2,), data=data, directory=str(tmp_path / "onnx")),
        resources,
    )
    file = tmp_path / "onnx" / made.models[0].file
    check = CheckExport(model=settings, depth=2, state_paths=(path,), file=str(file), data=data, holdout=0.0)
    assert not check_export(check, resources).differs
    # What the first exit answers is half of it.
    other = state(
        tmp_path / "other.safetensors", H1_weight=[[9.0, 0.0], [0.0, 9.0]], H2_weight=[[3.0, 0.0], [0.0, 3.0]]
    )
    assert check_export(msgspec.structs.replace(check, state_paths=(other,)), resources).differs
    # A model that trains one exit a depth answers with that one.
    assert check_export(msgspec.structs.replace(check, model=SETTINGS), resources).differs


TAUGHT_BY_ALL = msgspec.structs.replace(SETTINGS, exits="all")
RIGHT, WRONG = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]
"""Weights of a head that answers rightly, or wrongly, to the first layer's ``(x, -x)``; the surer, the larger."""


def sure(head: list[list[float]]) -> list[list[float]]:
    return [[3 * value for value in row] for row in head]


@pytest.mark.parametrize(("first", "last", "mean"), [(sure(RIGHT), WRONG, 1.0), (sure(WRONG), RIGHT, 0.0)])
@pytest.mark.parametrize("depths", [(1, 2), (2,)])
def test_models_are_judged_by_the_mean_of_exits_where_files_answer_with_it(
    tmp_path: Path, data: str, resources: WorkerResources, first: list[list[float]], last: list[list[float]],
    mean: float, depths: tuple[int, ...],
) -> None:  # fmt: skip
    path = state(tmp_path / "state.safetensors", H1_weight=first, H2_weight=last)
    job = Evaluate(model=TAUGHT_BY_ALL, state_path=path, depths=depths, data=data, answer="mean")
    judged = evaluate(job, resources)
    assert judged.scores.accuracy == dict.fromkeys(depths, mean)
    assert judged.scores.exits == {depth: mean if depth == 1 else 1.0 - mean for depth in depths}
    assert judged.scores.sums[2]["correct"] == (3.0 * mean, mean)
    # A single exit that somebody has spoilt shows less in a mean, so the check of updates looks at exits alone.
    assert judged.exit_loss[2] != judged.scores.loss[2]

    alone = evaluate(msgspec.structs.replace(job, answer="exit"), resources)
    assert alone.scores.accuracy == judged.scores.exits
    assert (alone.scores.exits, alone.exit_loss) == ({}, judged.exit_loss)

    # The file says the same.
    export_job = Export(
        model=TAUGHT_BY_ALL, state_paths=(path,), depths=(2,), data=data, directory=str(tmp_path / "onnx")
    )
    for job_of_answer, accuracy in ((export_job, mean), (msgspec.structs.replace(export_job, answer="exit"), 1 - mean)):
        assert export(job_of_answer, resources).models[0].accuracy == accuracy


def test_a_suspicion_of_chance_is_about_what_models_answer(tmp_path: Path, resources: WorkerResources) -> None:
    data = write_samples(tmp_path / "samples.npz", SAMPLES, (1.0, -1.0, 2.0, -2.0) * 4)
    path = state(tmp_path / "state.safetensors", H1_weight=sure(WRONG), H2_weight=RIGHT)
    job = Evaluate(model=TAUGHT_BY_ALL, state_path=path, depths=(1, 2), data=data, answer="mean", training_loss=0.01)
    assert evaluate(job, resources).warning
    assert not evaluate(msgspec.structs.replace(job, answer="exit"), resources).warning
