"""Device classes as TOML: which share of this machine training may take, to be a guest or to play a smaller board.

A profile caps, it never promises: what the machine has less of stays less.
"""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path

import msgspec

from fedlp_edge.config.toml import load_toml
from fedlp_edge.core.settings import Count, Positive
from fedlp_edge.errors import ConfigError
from fedlp_edge.wire.messages import Name

MEGABYTE = 1_000_000


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of one class of devices; ``None`` leaves the machine's own.

    Attributes:
        name: appears in reports.
        description: one line for people.
        threads: for training.
        ram_mb: memory of the whole board (10**6 bytes), of which system and idle worker take their part.
        training_memory_mb: what its owner lets training take on top of the idle agent (10**6 bytes).
        training_gmacs_per_second: cap on the reported training speed (10**9 multiply-accumulates).
        calibrate: whether the agent finds out by trials what the machine adds to what training takes.
        link_mbit_per_second: rate of its link; reported, and uploads are paced to it.
        metered: whether its owner pays for what the link carries; reported, and the link is not measured.
        sources: where the figures come from.
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
    sources: tuple[str, ...] = ()

    @property
    def training_memory(self) -> int | None:
        """``training_memory_mb`` in bytes."""
        return None if self.training_memory_mb is None else int(self.training_memory_mb * MEGABYTE)

    @property
    def ram(self) -> int | None:
        """``ram_mb`` in bytes."""
        return None if self.ram_mb is None else int(self.ram_mb * MEGABYTE)

    @property
    def link_bytes_per_second(self) -> float | None:
        """``link_mbit_per_second`` in bytes."""
        return None if self.link_mbit_per_second is None else self.link_mbit_per_second * MEGABYTE / 8


def profile_directory() -> Path:
    """Where the profiles that come with the package stand: its data if installed, else the checkout's folder."""
    installed = Path(str(files("fedlp_edge"))) / "profiles"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[2] / "profiles"


def profile_names() -> list[str]:
    """Names that ``find_profile`` knows without a path."""
    return sorted(path.stem for path in profile_directory().glob("*.toml"))


def load_profiles(directory: Path | None = None) -> list[DeviceProfile]:
    """All profiles of a directory, by file name; by default those that come with the package.

    Raises:
        ConfigError: there are none, or a file has a wrong key or value.
    """
    directory = directory or profile_directory()
    profiles = [load_toml(path, DeviceProfile) for path in sorted(directory.glob("*.toml"))]
    if not profiles:
        raise ConfigError(f"{directory} holds no profile; name a directory with one TOML file per device class")
    return profiles


def find_profile(spec: str | None) -> DeviceProfile:
    """Finds a profile by its name or by the path of a file; ``None`` is the machine as it is.

    Raises:
        ConfigError: there is no such profile, or its file has a wrong key or value.
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
