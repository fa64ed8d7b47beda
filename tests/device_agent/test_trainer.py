"""A worker that crashes is given its job once more, in a plainer way."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device_agent.blob_cache import BlobCache
from device_agent.outbox import Outbox
from device_agent.protocol.events import CheckModel, ModelChecked, RoundTrained, TrainingFailed, TrainRound
from device_agent.trainer import Trainer
from fedlp_edge.core.blueprint import TensorSpec
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import WorkerError
from fedlp_edge.wire.messages import ModelProof, Task, UnitVersion
from fedlp_edge.wire.tensors import pack_file
from fedlp_edge.worker.jobs import AnyJob, DeviceMeasurement, EncodedUnit, Failed, Measure, Train, Trained
from fedlp_edge.worker.process import WorkerDied, WorkerReply

CRASH = "was ended by SIGSEGV"


class Worker:
    """Takes jobs and does nothing."""

    def __init__(self, device: str = "auto") -> None:
        self.device = device
        self.jobs: list[AnyJob] = []

    def submit(self, job: AnyJob) -> int:
        self.jobs.append(job)
        return len(self.jobs)

    def use_cpu(self) -> None:
        self.device = "cpu"


def trainer_with(worker: Worker, directory: Path) -> Trainer:
    state = directory / "state"
    return Trainer(worker, BlobCache(state / "cache"), Outbox.open(state / "outbox"), state, "digits")  # type: ignore[arg-type]


def round_one() -> TrainRound:
    task = Task(
        run="run",
        round=1,
        device="pi",
        depth=1,
        seed=1,
        lpr=1.0,
        granularity="layer",
        prune="upload",
        personal_heads="persist",
        encoding="none",
        training=TrainingSettings(compute="bfloat16"),
        manifest=(),
        deadline_seconds=60.0,
        chunk_bytes=1000,
    )
    return TrainRound(task, "mark", ("L1",), {}, bytes_down=0, tensors={})


def test_weights_are_handed_to_the_worker_as_they_came_and_never_written_again(tmp_path: Path) -> None:
    (tmp_path / "state" / "weights").mkdir(parents=True)  # of a version that wrote them
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    plain, encoded = UnitVersion("L1", "11", 4, 1000), UnitVersion("L2", "22", 5, 1000, "int8")
    tensors = {"L1": (TensorSpec("L1.w", (1,)),), "L2": (TensorSpec("L2.w", (2, 8)),)}
    effect = dataclasses.replace(
        round_one(), task=msgspec.structs.replace(round_one().task, manifest=(plain, encoded)), received=tensors
    )
    trainer.train(effect, ModelSettings())
    (job,) = worker.jobs
    assert isinstance(job, Train)
    cache = tmp_path / "state" / "cache"
    assert job.state_paths == (str(cache / "11"),)
    assert job.encoded == (EncodedUnit(str(cache / "22"), "int8", tensors["L2"]),)
    assert not (tmp_path / "state" / "weights").exists()


def test_crash_in_a_round_is_repeated_once_in_the_plainest_way(tmp_path: Path) -> None:
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    trainer.train(round_one(), ModelSettings(), seconds_left=100.0)
    assert trainer.finish(WorkerDied(CRASH, 1, memory=True, crashed=True)) is None
    first, again = worker.jobs
    assert isinstance(first, Train)
    assert isinstance(again, Train)
    assert again.after_crash == f"the worker process {CRASH}"
    assert first.seconds is not None
    assert again.seconds is not None
    assert again.seconds <= first.seconds
    assert msgspec.structs.replace(again, after_crash="", seconds=first.seconds) == first
    failed = trainer.finish(WorkerDied(CRASH, 2, memory=True, crashed=True))
    assert failed == TrainingFailed("mark", "memory", f"the worker process {CRASH}")
    assert len(worker.jobs) == 2


def test_failure_that_stays_in_a_process_is_tried_once_in_a_new_one(tmp_path: Path) -> None:
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    trainer.train(round_one(), ModelSettings())
    failed = Failed(kind="memory", reason="could not create a primitive", again=True)
    assert trainer.finish(WorkerReply(1, failed)) is None
    assert isinstance(worker.jobs[1], Train)
    assert worker.jobs[1].after_crash == failed.reason
    assert trainer.finish(WorkerReply(2, failed)) == TrainingFailed("mark", "memory", failed.reason)


def test_round_that_the_gpu_failed_is_trained_on_the_cpu_in_its_usual_way(tmp_path: Path) -> None:
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    trainer.train(round_one(), ModelSettings(), seconds_left=100.0)
    assert trainer.finish(WorkerReply(1, Failed(kind="worker", reason="the GPU", without_gpu=True))) is None
    first, again = worker.jobs
    assert isinstance(first, Train)
    assert isinstance(again, Train)
    assert worker.device == "cpu"
    assert msgspec.structs.replace(again, seconds=first.seconds) == first


def test_worker_that_the_kernel_killed_is_not_asked_again(tmp_path: Path) -> None:
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    trainer.train(round_one(), ModelSettings())
    assert isinstance(trainer.finish(WorkerDied("was killed", 1, memory=True)), TrainingFailed)
    assert len(worker.jobs) == 1


def test_crash_while_measuring_leaves_the_gpu_out(tmp_path: Path) -> None:
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    trainer.measure()
    assert trainer.finish(WorkerDied(CRASH, 1, crashed=True)) is None
    assert worker.device == "cpu"
    assert [type(job) for job in worker.jobs] == [Measure, Measure]
    with pytest.raises(WorkerError, match=CRASH):
        trainer.finish(WorkerDied(CRASH, 2, crashed=True))


def test_gpu_that_does_not_work_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_with(Worker(), tmp_path)
    trainer.measure()
    note = "PyTorch lists a CUDA device, but it does not work (no kernel image): training on the CPU"
    result = DeviceMeasurement(samples=1, training_macs_per_second=1.0, processor="cpu", idle_memory=1, note=note)
    with caplog.at_level(logging.WARNING):
        assert trainer.finish(WorkerReply(1, result)) is result
    assert note in caplog.text


def test_judges_held_out_samples_where_the_task_asks_and_the_owner_lets_it(tmp_path: Path) -> None:
    effect = dataclasses.replace(
        round_one(), task=msgspec.structs.replace(round_one().task, holdout=0.2, answer="mean")
    )
    for reports in (True, False):
        worker, state = Worker(), tmp_path / f"{reports}"
        trainer = Trainer(worker, BlobCache(state / "c"), Outbox.open(state / "o"), state, "digits", reports)  # type: ignore[arg-type]
        trainer.train(effect, ModelSettings())
        (job,) = worker.jobs
        assert isinstance(job, Train)
        assert (job.holdout, job.judge, job.answer) == (0.2, reports, "mean")


@pytest.mark.parametrize(("announced", "told"), [(100, {1}), (9, set()), (0, {1})])
def test_tells_no_scores_of_more_samples_than_it_has_announced(tmp_path: Path, announced: int, told: set[int]) -> None:
    task = msgspec.structs.replace(round_one().task, samples=announced)
    effect = dataclasses.replace(round_one(), task=task)
    trainer = trainer_with(Worker(), tmp_path)
    trainer.train(effect, ModelSettings())
    scores = {1: HeldOutScores({"samples": (10.0,), "loss": (1.0,)})}
    done = trainer.finish(WorkerReply(1, Trained(samples=5, loss=1.0, seconds=1.0, peak_memory=1, scores=scores)))
    assert isinstance(done, RoundTrained)
    assert set(done.update.scores) == told
    assert set(done.update.offer("s").scores) == told


def test_a_comparison_that_the_worker_cannot_make_leaves_the_file_usable(tmp_path: Path) -> None:
    trainer = trainer_with(Worker(), tmp_path)
    trainer.check(CheckModel(ModelSettings(), 2, UnitVersion("onnx-2", "0" * 64, 1, 1), (), 0.1), tmp_path / "f", [])
    made = trainer.finish(WorkerReply(1, Failed(kind="memory", reason="memory ran out")))
    assert made == ModelChecked(ModelProof(2, problem="memory ran out"))


SPECS = (TensorSpec("L1.w", (4,)),)


def trained_update(trainer: Trainer, worker: Worker, round: int, feedback_from: int) -> str:
    """The digest of an update of three levels whose deltas are always the same."""
    task = msgspec.structs.replace(round_one().task, round=round, encoding="int2+zstd", feedback_from=feedback_from)
    effect = TrainRound(task, "mark", ("L1",), {"L1": ("L1.w",)}, bytes_down=0, tensors={"L1": SPECS})
    trainer.train(effect, ModelSettings())
    job = worker.jobs[-1]
    assert isinstance(job, Train)
    pack_file({"L1.w": np.array([1.0, 0.4, 0.0, 0.0], np.float32)}, Path(job.delta_dir) / "L1.safetensors")
    done = trainer.finish(WorkerReply(len(worker.jobs), Trained(samples=1, loss=0.5, seconds=1.0, peak_memory=1)))
    assert isinstance(done, RoundTrained)
    return done.update.digest


def test_residuals_of_a_lost_update_are_neither_lost_nor_added_twice(tmp_path: Path) -> None:
    worker = Worker()
    trainer = trainer_with(worker, tmp_path)
    first = trained_update(trainer, worker, 1, feedback_from=0)
    lost = trained_update(trainer, worker, 2, feedback_from=1)
    assert lost != first  # the residual of 0.4 has made another level of the same delta
    assert trained_update(trainer, worker, 2, feedback_from=1) == lost
    assert trained_update(trainer, worker, 3, feedback_from=1) == lost
    again = trainer_with(worker, tmp_path)  # the agent was killed
    worker.jobs.clear()
    assert trained_update(again, worker, 4, feedback_from=1) == lost
    assert trained_update(again, worker, 5, feedback_from=4) == first
    # Round 1 is pruned by now; what the device does not have, it does not add.
    assert trained_update(again, worker, 6, feedback_from=1) == first
