"""What a wheel holds, for machines that have no checkout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of a wheel of this checkout, without the version in their folders."""
    directory = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        wheel = directory / build_wheel(str(directory))
    version = wheel.name.split("-")[1]
    return {name.replace(f"-{version}.", ".") for name in zipfile.ZipFile(wheel).namelist()}


def test_a_wheel_holds_the_packages_their_profiles_and_types(names: set[str]) -> None:
    packages = ("fedlp_edge", "coordinator", "device_agent")
    modules = {path.relative_to(ROOT).as_posix() for package in packages for path in (ROOT / package).rglob("*.py")}
    profiles = {f"fedlp_edge/profiles/{path.name}" for path in (ROOT / "profiles").glob("*.toml")}
    inside = {name for name in names if not name.startswith("fedlp_edge.")}
    assert inside == modules | profiles | {"fedlp_edge/py.typed"}


def test_a_wheel_brings_what_a_board_needs_besides(names: set[str]) -> None:
    brought = {name.removeprefix("fedlp_edge.data/data/share/") for name in names if ".data/" in name}
    assert brought == {
        "fedlp-edge/fedlp-agent.service",
        "fedlp-edge/fedlp-coordinator.service",
        "fedlp-edge/constraints-aarch64.txt",
        "fedlp-edge/constraints-armv8.0.txt",
        "fedlp-edge/constraints-x86_64.txt",
    }
