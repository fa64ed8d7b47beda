from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.augment_settings import AugmentSettings, RandomHorizontalFlip
from fedlp_edge.core.blueprint import Blueprint, BuildCost, DepthCost
from fedlp_edge.core.planning.calibration import Calibration, OperationCost
from fedlp_edge.core.planning.memory_saving import memory_saving_steps
from fedlp_edge.core.planning.prediction import device_memory, epoch_seconds, training_memory
from fedlp_edge.core.settings import MemorySaving, TrainingSettings
from fedlp_edge.core.step_cost import MemoryPoint, StepCost, Work

STEP = StepCost(
    memory_points=(MemoryPoint(3000.0, 0.0), MemoryPoint(1000.0, 100.0)),
    checkpointed=(MemoryPoint(3000.0, 0.0), MemoryPoint(1000.0, 60.0)),
    largest_parameter=800,
    work={"convolution": Work(600, 4000, 300, 4), "depthwise": Work(100, 0, 0, 1), "elementwise": Work(0, 1000, 0, 5)},
    state_bytes=4000,
    recomputed_macs=350,
)
COST = DepthCost(depth=1, parameters=1000, forward_macs=200, activation_bytes=80, step=STEP)
GAPS = 10 * 22_000
CALIBRATION = Calibration(
    base=10_000,
    exact=1.0,
    cached=2.0,
    paces={
        "convolution": OperationCost(mac=1e-6, moved=1e-8, held=1e-6, operation=1e-4),
        "depthwise": OperationCost(mac=1e-5, moved=0.0, held=0.0, operation=1e-4),
        "elementwise": OperationCost(mac=0.0, moved=1e-8, held=0.0, operation=1e-4),
    },
    step=7e-4,
    slowdown=3.0,
)


def settings(memory_saving: MemorySaving | None = None, **changes: object) -> TrainingSettings:
    return TrainingSettings(batch_size=40, memory=memory_saving or MemorySaving(), **changes)  # type: ignore[arg-type]


def test_memory_is_the_highest_moment_and_what_the_device_adds() -> None:
    # 40 samples: 5,000 bytes at the highest moment, 4,000 of momentum; values once, copies of a parameter, gaps.
    always = 10_000 + 4000 + 1000 + GAPS
    assert training_memory(COST, settings(MemorySaving("exact")), CALIBRATION) == always + 9000
    assert training_memory(COST, settings(), CALIBRATION) == always + 18_000
    assert training_memory(COST, settings(MemorySaving("exact"), momentum=0.0), CALIBRATION) == always + 5000
    assert training_memory(COST, settings(MemorySaving("exact"), optimizer="adam"), CALIBRATION) == always + 13_000


def test_memory_falls_with_parts_of_a_batch_and_with_checkpoints() -> None:
    # 20 samples: 3,000 bytes, where gradients alone are as high.
    assert training_memory(COST, settings(MemorySaving("exact", 20)), CALIBRATION) == 10_000 + GAPS + 4000 + 7000 + 1000
    assert (
        training_memory(COST, settings(MemorySaving("exact", 0, True)), CALIBRATION)
        == 10_000 + GAPS + 4000 + 7400 + 1000
    )


def test_memory_has_a_calibration_of_its_own_for_devices_without_one() -> None:
    assert training_memory(COST, settings()) > 500_000


@given(st.integers(1, 128), st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, 1e5), st.sampled_from(["sgd", "adam"]))
def test_memory_never_grows_down_the_ladder_of_parts(
    batch: int, fixed: float, slope: float, less: float, optimizer: str
) -> None:
    step = msgspec.structs.replace(
        STEP, memory_points=(MemoryPoint(fixed, slope),), checkpointed=(MemoryPoint(fixed, min(slope, less)),)
    )
    cost = msgspec.structs.replace(COST, step=step)
    training = TrainingSettings(batch_size=batch, optimizer=optimizer)  # type: ignore[arg-type]
    for checkpointing in (False, True):
        ways = memory_saving_steps(training, ("allocation", "accumulation", "checkpointing"))
        needs = [
            training_memory(cost, msgspec.structs.replace(training, memory=way), CALIBRATION)
            for way in ways
            if way.checkpointing == checkpointing
        ]
        assert needs == sorted(needs, reverse=True)


def test_time_counts_each_kind_of_work_at_its_pace() -> None:
    # A sample: 600 us + 1,000 us of multiplications and 50 us of traffic. Each of two steps: 10 operations, 300 bytes
    # of filters and 16,000 of values, and what is on top: 1 ms, 300 us, 160 us and 700 us.
    assert abs(epoch_seconds(COST, settings(), 80, 0.0, CALIBRATION) - (80 * 1.65e-3 + 2 * 2.16e-3)) < 1e-12
    # Activations computed twice are half as much again, and exact allocation takes three times as long.
    slow = epoch_seconds(COST, settings(MemorySaving("exact", 0, True)), 80, 0.0, CALIBRATION)
    assert abs(slow - 3 * (1.5 * (80 * 1.65e-3 + 2 * 1.3e-3) + 2 * 0.86e-3)) < 1e-12


def test_time_is_corrected_by_what_rounds_took() -> None:
    plain = epoch_seconds(COST, settings(), 80, 0.0, CALIBRATION)
    twice = msgspec.structs.replace(CALIBRATION, correction=2.0)
    assert epoch_seconds(COST, settings(), 80, 0.0, twice) == 2 * plain


def test_time_rests_on_the_measured_speed_without_a_calibration() -> None:
    assert epoch_seconds(COST, settings(), 80, 6e3) == 8.0
    assert epoch_seconds(COST, settings(), 80, 0.0) == 0.0


def test_device_needs_what_building_takes_and_leaves_behind() -> None:
    plain = Blueprint("net", (1,), 2, "shared", (), (COST,))
    trained = training_memory(COST, settings(), CALIBRATION)
    assert device_memory(plain, 1, settings(), CALIBRATION) == trained
    libraries = msgspec.structs.replace(plain, building=BuildCost(libraries=5000, peak=6000))
    assert device_memory(libraries, 1, settings(), CALIBRATION) == trained + 5000
    heavy = msgspec.structs.replace(plain, building=BuildCost(libraries=5000, peak=10**9))
    assert device_memory(heavy, 1, settings(), CALIBRATION) == 10**9


def test_device_needs_torchvision_for_transforms_unless_its_model_has_imported_it() -> None:
    plain = Blueprint("net", (1,), 2, "shared", (), (COST,))
    flips = settings(augment=AugmentSettings(transforms=(RandomHorizontalFlip(),)))
    # A batch is of 40 samples of one number each, and there are two more of it.
    trained = training_memory(COST, flips, CALIBRATION) + 2 * 4 * 40
    assert device_memory(plain, 1, flips, CALIBRATION) == trained + 180_000_000
    imports_it = msgspec.structs.replace(plain, building=BuildCost(libraries=190_000_000))
    assert device_memory(imports_it, 1, flips, CALIBRATION) == trained + 190_000_000


def test_adamw_takes_as_much_memory_as_adam() -> None:
    adam, adamw = (settings(optimizer=name, momentum=0.0) for name in ("adam", "adamw"))
    assert training_memory(COST, adamw, CALIBRATION) == training_memory(COST, adam, CALIBRATION)
