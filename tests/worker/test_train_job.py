"""The job of a round, in this process and with numbers that can be worked out by hand (``tests.two_layers``)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from safetensors.numpy import load_file

from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ModelError
from fedlp_edge.worker.build_jobs import build
from fedlp_edge.worker.jobs import Build, Train, WorkerOptions
from fedlp_edge.worker.resources import WorkerResources
from fedlp_edge.worker.train_job import train
from tests.two_layers import LAYERS, NAME, ONE_STEP, PERSONAL, SETTINGS, write_samples


class Device:
    """A worker with a model and samples.

    Attributes:
        resources: What the worker keeps between jobs.
        job: Round in which both layers are sent; some fields may be changed.
    """

    def __init__(self, directory: Path, *x: float, model: ModelSettings = SETTINGS, **options: object) -> None:
        self.directory = directory
        self.resources = WorkerResources(WorkerOptions(device="cpu", allow_models=(NAME,), **options))  # type: ignore[arg-type]
        state = str(directory / "state.safetensors")
        build(Build(model=model, state_path=state), self.resources)
        self.job = Train(
            model=model,
            depth=2,
            state_paths=(state,),
            sent=LAYERS,
            freeze=False,
            training=ONE_STEP,
            seed=1,
            head_seed=2,
            data=write_samples(directory / "samples.npz", x or (1.0, 1.0)),
            delta_dir=str(directory / "deltas"),
        )

    def deltas(self, unit: str) -> dict[str, list[object]]:
        found = load_file(self.directory / "deltas" / f"{unit}.safetensors")
        return {name: values.tolist() for name, values in found.items()}


def test_changes_of_the_sent_units_are_in_files(tmp_path: Path) -> None:
    device = Device(tmp_path)
    trained = train(device.job, device.resources)
    assert device.deltas("L1") == {"L1.weight": [[0.5], [-0.5]]}
    assert device.deltas("L2") == {"L2.weight": [[0.5, 0.5], [-0.5, -0.5]]}
    assert sorted(path.name for path in (tmp_path / "deltas").iterdir()) == ["L1.safetensors", "L2.safetensors"]
    assert trained.loss == pytest.approx(0.6931, abs=1e-4)  # ln 2, a guess between two classes
    assert (trained.samples, trained.compute, trained.finished, trained.notes) == (2, "float32", True, ())
    assert trained.scores == {}


def test_same_job_gives_the_same_bits(tmp_path: Path) -> None:
    device = Device(tmp_path, 1.0, -2.0, 3.0, -4.0, 5.0)
    train(device.job, device.resources)
    first = device.deltas("L1")
    train(device.job, device.resources)
    assert device.deltas("L1") == first


def test_withheld_values_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    device = Device(tmp_path)
    kept = tmp_path / "withheld.safetensors"
    job = msgspec.structs.replace(device.job, sent={"L1": LAYERS["L1"]}, withheld=("L2",), withheld_path=str(kept))
    train(job, device.resources)
    assert load_file(kept)["L2.weight"].tolist() == [[1.5, 0.5], [-0.5, 0.5]]
    assert not (tmp_path / "deltas" / "L2.safetensors").exists()


@pytest.mark.parametrize(
    ("model", "changes", "problem"),
    [
        (PERSONAL, {"depth": 1}, "the head of depth 1 is personal, but no file to keep it in is named"),
        (SETTINGS, {"withheld": ("L2",)}, "L2 stays on the device, but no file to keep it in is named"),
        (SETTINGS, {"depth": 3}, f"{NAME} has depths 1 to 2, not 3"),
    ],
)
def test_job_that_lacks_something_is_refused(
    tmp_path: Path, model: ModelSettings, changes: dict[str, object], problem: str
) -> None:
    device = Device(tmp_path, model=model)
    with pytest.raises(ModelError) as caught:
        train(msgspec.structs.replace(device.job, **changes), device.resources)
    assert str(caught.value) == problem


def test_training_stops_when_its_time_is_up(tmp_path: Path) -> None:
    device = Device(tmp_path, 1.0, 1.0, 1.0, 1.0)
    epochs = msgspec.structs.replace(ONE_STEP, epochs=2)
    trained = train(msgspec.structs.replace(device.job, training=epochs, seconds=0.0), device.resources)
    assert (trained.samples, trained.finished) == (1, False)  # one batch of two samples, of two epochs of four


def test_model_is_judged_before_it_is_trained_on_samples_that_are_held_out(tmp_path: Path) -> None:
    device = Device(tmp_path, *map(float, range(1, 17)))
    job = msgspec.structs.replace(device.job, holdout=0.5)
    silent = train(job, device.resources)
    judging = train(msgspec.structs.replace(job, judge=True), device.resources)
    assert (silent.scores, set(judging.scores)) == ({}, {2})
    assert (judging.scores[2].samples, judging.samples) == (10, 6)
    assert silent.samples == judging.samples


def test_round_that_ended_a_process_is_trained_the_safest_way(tmp_path: Path) -> None:
    device = Device(tmp_path)
    fast = msgspec.structs.replace(ONE_STEP, compute="bfloat16")
    trained = train(msgspec.structs.replace(device.job, training=fast, after_crash="SIGSEGV"), device.resources)
    assert trained.compute == "float32"
    assert "trained in a new worker process in float32, and so from now on" in trained.notes


def test_model_that_alone_takes_more_than_is_allowed_is_refused(tmp_path: Path) -> None:
    device = Device(tmp_path, memory_bytes=10)
    with pytest.raises(MemoryError, match=r"^the model's values alone take \d+ bytes of the 10 allowed$"):
        train(device.job, device.resources)
