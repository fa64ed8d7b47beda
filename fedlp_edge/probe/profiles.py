"""This module reads device profiles from TOML files.

A profile limits what training may use of a machine, to leave room for other programs or to emulate a smaller board. It
only lowers the machine's own figures and never raises them.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

import msgspec

from fedlp_edge.config.toml import load_toml
from fedlp_edge.core.planning.model_choice import AnswerLimits
from fedlp_edge.core.settings import Count, Positive
from fedlp_edge.errors import ConfigError
from fedlp_edge.wire.messages import Name

MEGABYTE = 1_000_000


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Holds the limits of one class of devices; ``None`` means the machine's own limit.

    Attributes:
        name: Name of the profile in reports.
        description: One line that describes the device class.
        threads: Most threads that training may use.
        ram_mb: Memory of the whole board, 10**6 bytes; operating system, agent and idle worker take their part of it.
        training_memory_mb: Memory that the owner lets training take on top of the idle worker, 10**6 bytes.
        training_gmacs_per_second: Cap on the reported training speed, 10**9 multiply-accumulates per second.
        link_mbit_per_second: Link rate in 10**6 bits per second; it is reported, and uploads are limited to it.
        calibrate: Whether the agent runs trials that measure how training on this machine differs from the step table.
        metered: Whether the owner pays for traffic; it is reported, and the link is then not probed.
        answer_milliseconds: Most milliseconds that nine of ten answers of an installed model may take.
        answer_memory_mb: Most memory that answering may take, 10**6 bytes; by default ``ram_mb``.
        sources: References for the figures.
    """

    name: Name = "host"
    description: str = ""
    threads: Count | None = None
    ram_mb: Positive | None = None
    training_memory_mb: Positive | None = None
    training_gmacs_per_second: Positive | None = None
    link_mbit_per_second: Positive | None = None
    calibrate: bool = True
    metered: bool = False
    answer_milliseconds: Positive | None = None
    answer_memory_mb: Positive | None = None
    sources: tuple[str, ...] = ()

    @property
    def training_memory(self) -> int | None:
        """``training_memory_mb`` in bytes."""
        return None if self.training_memory_mb is None else int(self.training_memory_mb * MEGABYTE)

    @property
    def answer_limits(self) -> AnswerLimits:
        """What an answer of an installed model may take; memory is that of the board unless the owner says less."""
        memory = self.ram if self.answer_memory_mb is None else int(self.answer_memory_mb * MEGABYTE)
        return AnswerLimits(milliseconds=self.answer_milliseconds, memory=memory)

    @property
    def ram(self) -> int | None:
        """``ram_mb`` in bytes."""
        return None if self.ram_mb is None else int(self.ram_mb * MEGABYTE)

    @property
    def link_bytes_per_second(self) -> float | None:
        """``link_mbit_per_second`` in bytes per second."""
        return None if self.link_mbit_per_second is None else self.link_mbit_per_second * MEGABYTE / 8


def profile_directory() -> Path:
    """Returns the directory of the supplied profiles: the package's data if installed, else the checkout's folder."""
    installed = Path(str(files("fedlp_edge"))) / "profiles"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "profiles"


def profile_names() -> list[str]:
    """Returns the names of the supplied profiles, sorted."""
    return sorted(path.stem for path in profile_directory().glob("*.toml"))


def load_profiles(directory: Path | None = None) -> list[DeviceProfile]:
    """Reads all profiles of a directory in the order of their file names.

    Args:
        directory: Directory with one TOML file per profile; by default that of the supplied profiles.

    Raises:
        ConfigError: The directory holds no profile, or a file has a wrong key or value.
    """
    directory = directory or profile_directory()
    profiles = [load_toml(path, DeviceProfile) for path in sorted(directory.glob("*.toml"))]
    if not profiles:
        raise ConfigError(f"{directory} holds no profile; name a directory with one TOML file per device class")
    return profiles


def find_profile(spec: str | None) -> DeviceProfile:
    """Finds a profile by its name or by the path of its file.

    Args:
        spec: Name of a supplied profile or path of a TOML file; None for a profile without limits.

    Raises:
        ConfigError: There is no such profile, or its file has a wrong key or value.
    """
    if spec is None:
        return DeviceProfile()
    if "/" in spec or spec.endswith(".toml"):
        return load_toml(Path(spec), DeviceProfile)
    names = profile_names()
    if spec in names:
        return load_toml(profile_directory() / f"{spec}.toml", DeviceProfile)
    close = difflib.get_close_matches(spec, names, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(names) or 'none'}"
    raise ConfigError(f'no profile is called "{spec}"; {hint} (a path to a TOML file works too)')
