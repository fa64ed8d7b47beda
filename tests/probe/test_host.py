"""What training may take is the least of everything that limits it."""

from __future__ import annotations

import errno
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.planning.calibration import Calibration
from fedlp_edge.core.planning.prediction import ON_CUDA
from fedlp_edge.probe.cgroup_limits import CgroupLimits
from fedlp_edge.probe.host import (
    BOARD_SYSTEM_MEMORY,
    Host,
    device_facts,
    hottest,
    probe_host,
    training_threads,
    within,
    worker_share,
)
from fedlp_edge.probe.profiles import DeviceProfile
from fedlp_edge.worker.jobs import DeviceMeasurement

MB = 1_000_000
HOST = Host("pi", "aarch64", memory_available=3000 * MB, memory_total=4000 * MB, cores=4.0, load=0.25)
MEASURED = DeviceMeasurement(
    samples=120,
    data=DataFacts(sample_shape=(1, 8, 8), labels=10, highest=9),
    training_macs_per_second=5e9,
    processor="cpu",
    idle_memory=300 * MB,
)


def test_takes_what_is_available_without_a_profile():
    facts = device_facts(HOST, MEASURED, DeviceProfile(), 4)
    assert facts.training_memory == 3000 * MB
    assert (facts.profile, facts.samples, facts.training_macs_per_second) == ("host", 120, 5e9)
    assert facts.link_bytes_per_second is None


def test_takes_no_more_than_the_owner_lets_training_take():
    profile = DeviceProfile(name="guest", training_memory_mb=1.5, link_mbit_per_second=8)
    facts = device_facts(HOST, MEASURED, profile, 1)
    assert facts.training_memory == 1_500_000
    assert facts.link_bytes_per_second == 1_000_000


def test_leaves_system_and_idle_worker_their_part_of_a_played_board():
    facts = device_facts(HOST, MEASURED, DeviceProfile(name="board", ram_mb=1000), 4)
    assert facts.training_memory == 1000 * MB - BOARD_SYSTEM_MEMORY - 300 * MB
    assert facts.memory_total == 1000 * MB


def test_leaves_the_agent_itself_its_part_of_a_played_board():
    board = DeviceProfile(name="board", ram_mb=1000)
    host = replace(HOST, own_memory=40 * MB)
    assert worker_share(host, board) == 1000 * MB - BOARD_SYSTEM_MEMORY - 40 * MB
    assert device_facts(host, MEASURED, board, 4).training_memory == 760 * MB - 300 * MB
    assert worker_share(host, DeviceProfile()) is None


def test_promises_nothing_that_the_machine_does_not_have():
    facts = device_facts(HOST, MEASURED, DeviceProfile(name="big", ram_mb=64_000, training_memory_mb=32_000), 4)
    assert facts.training_memory == 3000 * MB


def test_leaves_nothing_on_a_board_that_the_idle_worker_fills():
    assert device_facts(HOST, MEASURED, DeviceProfile(name="tiny", ram_mb=256), 4).training_memory == 0


def test_looks_at_the_memory_of_the_gpu_when_it_trains_there():
    measured = msgspec.structs.replace(MEASURED, processor="cuda", cuda_name="T4", cuda_memory=9000 * MB)
    facts = device_facts(HOST, measured, DeviceProfile(), 4)
    assert (facts.training_memory, facts.cuda_name) == (9000 * MB, "T4")


@pytest.mark.parametrize(("free", "reserve", "left"), [(9000, 0, 3000), (2000, 0, 2000), (2000, 500, 1500), (1, 2, 0)])
def test_counts_memory_once_that_gpu_and_host_share(free: int, reserve: int, left: int):
    orin = msgspec.structs.replace(
        MEASURED,
        processor="cuda",
        cuda_name="Orin",
        cuda_memory=free * MB,
        cuda_shares_memory=True,
        data_reserve=reserve * MB,
    )
    assert device_facts(HOST, orin, DeviceProfile(), 4).training_memory == left * MB


def test_says_nothing_of_the_cpu_where_it_trains_on_a_gpu():
    measured = msgspec.structs.replace(MEASURED, processor="cuda", cuda_name="T4", cuda_memory=9000 * MB)
    assert device_facts(HOST, measured, DeviceProfile(), 4, Calibration(base=7.0)).calibration == ON_CUDA
    assert device_facts(HOST, MEASURED, DeviceProfile(), 4, Calibration(base=7.0)).calibration == Calibration(base=7.0)


def test_caps_the_speed_that_it_reports():
    profile = DeviceProfile(name="slow", training_gmacs_per_second=2)
    assert device_facts(HOST, MEASURED, profile, 1).training_macs_per_second == 2e9
    assert device_facts(HOST, MEASURED, DeviceProfile(training_gmacs_per_second=9), 1).training_macs_per_second == 5e9


def test_sees_the_machine_through_its_control_group():
    host = within(HOST, CgroupLimits(memory_total=500 * MB, memory_available=100 * MB, cpus=0.5), load_average=1.0)
    assert (host.memory_total, host.memory_available, host.cores, host.load) == (500 * MB, 100 * MB, 0.5, 2.0)


@pytest.mark.parametrize(
    ("asked", "profile", "cores", "threads"),
    [
        (None, None, 4.0, 4),
        (None, None, 0.5, 1),
        (None, 2, 4.0, 2),
        (None, 8, 4.0, 4),
        (3, 1, 4.0, 3),
        (0, None, 2.0, 2),
    ],
)
def test_chooses_threads(asked: int | None, profile: int | None, cores: float, threads: int):
    assert training_threads(asked, DeviceProfile(threads=profile), cores) == threads


@pytest.mark.parametrize(
    ("cores", "others", "threads"), [(2.0, 0, 2), (2.0, 1, 1), (2.0, 3, 1), (8.0, 3, 2), (8.0, 2, 2)]
)
def test_shares_cores_with_other_agents(cores: float, others: int, threads: int):
    assert training_threads(None, DeviceProfile(), cores, others) == threads
    assert training_threads(5, DeviceProfile(), cores, others) == 5


def test_probes_this_very_machine(tmp_path: Path):
    host = probe_host(tmp_path)
    assert 0 < host.memory_available <= host.memory_total
    assert host.cores >= 1


def readings(**celsius: float | None) -> dict[str, list[SimpleNamespace]]:
    return {chip: [SimpleNamespace(label="", current=value)] for chip, value in celsius.items()}


@pytest.mark.parametrize(
    ("sensors", "expected"),
    [
        # A Jetson's power chip reads 100 degrees, whatever happens.
        ({"CPU-therm": 41.5, "GPU-therm": 43.0, "PMIC-Die": 100.0}, 43.0),
        ({"PMIC-Die": 100.0}, None),
        ({"cpu_thermal": 100.0}, 100.0),
        ({"acpitz": 27.8, "coretemp": 52.0, "BAT0": 60.0, "iwlwifi_1": 70.0}, 52.0),
        ({"acpitz": 27.8, "pch": 45.0}, 45.0),
        ({"thermal": 0.0}, None),
        ({"cpu_thermal": -274.0, "nvme": 40.0}, None),
        ({"cpu_thermal": None}, None),
        ({}, None),
    ],
)
def test_takes_the_processors_temperature_and_no_placeholder(
    sensors: dict[str, float | None], expected: float | None
) -> None:
    assert hottest(readings(**sensors)) == expected


@pytest.mark.parametrize(("plugged", "on_battery"), [(None, None), (True, False), (False, True)])
def test_unknown_power_supply_stays_unknown(
    monkeypatch: pytest.MonkeyPatch, plugged: bool | None, on_battery: bool | None
) -> None:
    battery = SimpleNamespace(percent=50, power_plugged=plugged)
    monkeypatch.setattr("fedlp_edge.probe.host.psutil.sensors_battery", lambda: battery, raising=False)
    assert probe_host().on_battery is on_battery


def test_hidden_figures_of_swap_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def warn() -> SimpleNamespace:
        warnings.warn("'sin' and 'sout' swap memory stats couldn't be determined", RuntimeWarning, stacklevel=1)
        return SimpleNamespace(free=7)

    monkeypatch.setattr("psutil.swap_memory", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert probe_host().swap_free == 7


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), psutil.AccessDenied(1), KeyError("MemFree")]
)
def test_system_that_does_not_tell_of_itself_keeps_nobody_from_training(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    for name in ("virtual_memory", "swap_memory", "sensors_battery", "sensors_temperatures", "Process"):
        monkeypatch.setattr(psutil, name, fail, raising=False)
    host = probe_host()
    assert (host.own_memory, host.swap_free, host.temperature_celsius, host.on_battery) == (0, 0, None, None)
    assert host.memory_total > 0
