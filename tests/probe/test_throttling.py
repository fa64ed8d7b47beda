from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.probe.throttling import is_throttled


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def test_says_nothing_where_nobody_tells(tmp_path: Path) -> None:
    assert is_throttled(tmp_path) is None


@pytest.mark.parametrize(("bits", "throttled"), [("0", False), ("50005", True), ("50000", False), ("4", True)])
def test_reads_what_the_firmware_of_a_raspberry_pi_says_of_now(tmp_path: Path, bits: str, throttled: bool) -> None:
    write(tmp_path, "sys/devices/platform/soc/soc:firmware/get_throttled", bits + "\n")
    assert is_throttled(tmp_path) is throttled


def test_reads_cooling_devices_of_processors_and_no_fans(tmp_path: Path) -> None:
    write(tmp_path, "sys/class/thermal/cooling_device0/type", "pwm-fan\n")
    write(tmp_path, "sys/class/thermal/cooling_device0/cur_state", "3\n")
    assert is_throttled(tmp_path) is None
    write(tmp_path, "sys/class/thermal/cooling_device1/type", "thermal-cpufreq-0\n")
    write(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "0\n")
    assert is_throttled(tmp_path) is False
    write(tmp_path, "sys/class/thermal/cooling_device1/cur_state", "2\n")
    assert is_throttled(tmp_path) is True
