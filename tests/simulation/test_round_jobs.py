from __future__ import annotations

from pathlib import Path

import msgspec

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.planning.planner import Plan
from fedlp_edge.core.rounds.events import CohortMember
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import SchemeSettings, TrainingSettings
from fedlp_edge.simulation.engines.base import QueuedJob
from fedlp_edge.simulation.engines.jobs import TrainDevice
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.fleet import VirtualDevice
from fedlp_edge.simulation.round_jobs import RoundJobs
from fedlp_edge.simulation.schedule import RoundClosing
from fedlp_edge.storage.device_values import DeviceValues
from tests.coordinator.fleets import tiny_blueprint

A, B = CohortMember("a", 1, 1.0, 10, 10), CohortMember("b", 2, 1.0, 30, 30)
PERSONAL = msgspec.structs.replace(tiny_blueprint(), head_mode="personal")


def round_jobs(directory: Path, blueprint: Blueprint | None = None, **settings: object) -> RoundJobs:
    """The jobs of a run of two devices, of depth 1 and of depth 2."""
    fleet = {
        place.device: VirtualDevice(number, "", Plan(place.depth, 1.0, "", 0, 1.0), place)
        for number, place in enumerate((A, B))
    }
    experiment = msgspec.structs.replace(Experiment(), **settings)
    values = DeviceValues(directory)
    return RoundJobs(experiment, blueprint or tiny_blueprint(), fleet, values, {1: "float32", 2: "bfloat16"})


def closing(round: int, *contributors: CohortMember, late: tuple[CohortMember, ...] = ()) -> RoundClosing:
    return RoundClosing(
        round=round,
        contributors={place.device: place for place in contributors},
        lost={},
        late={place.device: place for place in late},
        given={},
        capacity=40,
        seconds=1.0,
        oldest_task=round,
    )


def training(queued: list[QueuedJob]) -> dict[str, TrainDevice]:
    return {entry.job.device: entry.job for entry in queued if isinstance(entry.job, TrainDevice)}


def test_trains_each_contributor_from_the_version_before_its_round(tmp_path: Path) -> None:
    queued = round_jobs(tmp_path).jobs(closing(3, A, B))
    jobs = training(queued)
    assert (jobs["a"].number, jobs["a"].version, jobs["a"].depth, jobs["a"].compute) == (0, 2, 1, "float32")
    assert (jobs["b"].number, jobs["b"].version, jobs["b"].depth, jobs["b"].compute) == (1, 2, 2, "bfloat16")
    assert jobs["a"].sent == {"L1": ("blocks.0.w",), "H1": ("heads.1.w",)}
    assert (jobs["b"].most, jobs["b"].capacity, jobs["b"].counted) == (30, 40, True)
    assert (jobs["b"].withheld, jobs["b"].reused, jobs["b"].reused_values) == ((), (), b"")
    # Three forward passes a sample of 100 and 200 multiply-accumulates, in one epoch.
    assert [entry.cost for entry in queued] == [3 * 100 * 10, 3 * 200 * 30]


def test_computes_in_float32_on_a_device_whose_mode_failed(tmp_path: Path) -> None:
    jobs = round_jobs(tmp_path)
    jobs.note_compute("b", 2, "bfloat16")
    assert training(jobs.jobs(closing(1, B)))["b"].compute == "bfloat16"
    jobs.note_compute("b", 2, "float32")
    assert training(jobs.jobs(closing(2, B)))["b"].compute == "float32"


def test_leaves_out_who_came_late_unless_something_stays_on_the_device(tmp_path: Path) -> None:
    assert round_jobs(tmp_path).jobs(closing(1, B, late=(A,))) == round_jobs(tmp_path).jobs(closing(1, B))
    jobs = training(round_jobs(tmp_path, PERSONAL).jobs(closing(1, B, late=(A,))))
    assert (jobs["b"].counted, jobs["b"].withheld) == (True, ())
    assert (jobs["a"].counted, jobs["a"].withheld) == (False, ("H1",))


def test_goes_on_with_a_head_where_the_last_round_left_it(tmp_path: Path) -> None:
    jobs = round_jobs(tmp_path, PERSONAL)
    jobs.device_values.write("a", 2, b"head")
    job = training(jobs.jobs(closing(4, A)))["a"]
    assert (job.reused, job.reused_values, list(job.sent)) == (("H1",), b"head", ["L1"])
    assert list(jobs.personal_heads_after(1)) == []
    assert list(jobs.personal_heads_after(2)) == list(jobs.personal_heads_after(4)) == [("a", 1, 2)]
    reset = round_jobs(tmp_path, PERSONAL, scheme=SchemeSettings(personal_heads="reset"))
    assert training(reset.jobs(closing(4, A)))["a"].reused == ()
    assert list(reset.personal_heads_after(4)) == []


def test_weighs_an_update_by_the_age_of_its_task(tmp_path: Path) -> None:
    jobs = round_jobs(tmp_path, rounds=RoundSettings(mode="buffered", buffer_size=1, staleness_exponent=0.5))
    old = msgspec.structs.replace(A, round=2)
    assert training(jobs.jobs(closing(5, old)))["a"].version == 1
    # 256 for a fresh update, divided by the square root of 4 for one that is three rounds old.
    assert (jobs.factor(closing(5, A), A), jobs.factor(closing(5, old), old)) == (256, 128)


def test_has_the_step_size_of_the_round_that_a_task_belongs_to(tmp_path: Path) -> None:
    warmup = TrainingSettings(lr=0.8, warmup_rounds=3)
    jobs = round_jobs(tmp_path, training=warmup)
    assert training(jobs.jobs(closing(2, A)))["a"].training == TrainingSettings(lr=0.4)
    late = msgspec.structs.replace(A, round=1)
    assert training(jobs.jobs(closing(4, late, B)))["a"].training.lr == 0.2
