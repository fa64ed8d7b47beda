"""Which processor this is, and whether the PyTorch that is installed runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedlp_edge.system import processor_info
from fedlp_edge.system.processor_info import cpu_flags, install_hint, lacks_lse_atomics, processor_name, torch_warning

ATOMICS = 1 << 8
RASPBERRY_PI_4 = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
RASPBERRY_PI_5 = RASPBERRY_PI_4.replace("crc32", "aes crc32 atomics fphp").replace("0xd08", "0xd0b")
XEON = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8488C\nflags\t\t: fpu avx512_bf16 amx_bf16\n"


class Machine:
    """What a machine says of itself."""

    def __init__(self, patch: pytest.MonkeyPatch, path: Path) -> None:
        self._patch = patch
        self._path = path

    def is_(self, machine: str, cpuinfo: str, hwcap: int = 0, torch: str = "2.14.1+cpu") -> None:
        self._path.write_text(cpuinfo)
        self._patch.setattr(processor_info, "CPUINFO", self._path)
        self._patch.setattr(processor_info.platform, "machine", lambda: machine)  # type: ignore[attr-defined]
        self._patch.setattr(processor_info, "_hwcap", lambda: hwcap)
        self._patch.setattr(processor_info, "torch_version", lambda: torch)
        forget()


def forget() -> None:
    cpu_flags.cache_clear()
    processor_name.cache_clear()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    yield Machine(monkeypatch, tmp_path / "cpuinfo")
    monkeypatch.undo()
    forget()


@pytest.mark.parametrize("torch", ["2.10.0", "2.15.0+cpu", "2.9.2"])
def test_warns_on_a_core_without_lse_atomics(machine: Machine, torch: str) -> None:
    machine.is_("aarch64", RASPBERRY_PI_4, torch=torch)
    assert torch_warning() == (
        f"this processor (Cortex-A72) has no LSE atomics, and PyTorch {torch} is known to be ended by SIGILL on such "
        "cores: pip install --constraint deploy/constraints-armv8.0.txt (docs/devices.md has the line of each board)"
    )


@pytest.mark.parametrize(
    ("name", "cpuinfo", "hwcap", "torch"),
    [
        ("aarch64", RASPBERRY_PI_5, 0, "2.14.1"),
        ("aarch64", RASPBERRY_PI_4, 0, "2.9.1"),
        ("aarch64", RASPBERRY_PI_4, 0, "2.9.1+cpu"),
        ("aarch64", RASPBERRY_PI_4, ATOMICS | 2, "2.14.1"),  # the kernel's word to the process counts
        ("aarch64", "", 0, "2.14.1"),
        ("aarch64", RASPBERRY_PI_4, 0, ""),
        ("x86_64", XEON, 0, "2.14.1"),
    ],
)
def test_warns_of_nothing_else(machine: Machine, name: str, cpuinfo: str, hwcap: int, torch: str) -> None:
    machine.is_(name, cpuinfo, hwcap, torch)
    assert torch_warning() is None


def test_emulated_core_is_known_by_what_the_kernel_says_to_the_process(machine: Machine) -> None:
    machine.is_("aarch64", XEON, hwcap=2)
    assert lacks_lse_atomics()


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (XEON, "Intel(R) Xeon(R) Platinum 8488C"),
        (RASPBERRY_PI_5, "Cortex-A76"),
        ("CPU part\t: 0xfff\n", "an ARM core, part 0xfff"),
        ("Model\t: A board\n", "A board"),
    ],
)
def test_processor_name_is_what_people_know_it_by(machine: Machine, cpuinfo: str, name: str) -> None:
    machine.is_("aarch64", cpuinfo)
    assert processor_name() == name


def test_install_words_name_another_version_elsewhere(machine: Machine) -> None:
    machine.is_("x86_64", XEON)
    assert install_hint() == 'install another version of PyTorch, such as pip install "torch==2.9.1"'
    assert cpu_flags() >= {"amx_bf16", "avx512_bf16"}
