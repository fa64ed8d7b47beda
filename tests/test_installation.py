"""What installs FedLP Edge: the constraint files, the image and the check of the platform."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement

from fedlp_edge.system.lifecycle import EXIT_ERROR, EXIT_INCOMPLETE, EXIT_STOPPED

ROOT = Path(__file__).parent.parent
CONSTRAINTS = sorted((ROOT / "deploy").glob("constraints-*.txt"))


def constraints(path: Path) -> dict[str, Requirement]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def required(*extras: str) -> dict[str, Requirement]:
    """What pyproject.toml asks for, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    return {requirement.name: requirement for requirement in map(Requirement, texts)}


def check_platform() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_platform", ROOT / "deploy" / "check_platform.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_file_for_each_kind_of_processor() -> None:
    assert [path.name for path in CONSTRAINTS] == [
        "constraints-aarch64.txt",
        "constraints-armv8.0.txt",
        "constraints-x86_64.txt",
    ]


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.name)
def test_constraints_pin_everything_that_a_fleet_needs_within_its_bounds(path: Path) -> None:
    pinned = constraints(path)
    for name, requirement in required("coordinator", "vision", "inference").items():
        (version,) = [spec.version for spec in pinned[name].specifier if spec.operator == "=="]
        assert requirement.specifier.contains(version), f"{name} {version} is not within {requirement.specifier}"


def test_boards_without_atomics_get_the_pytorch_that_trains_on_them() -> None:
    assert str(constraints(ROOT / "deploy" / "constraints-armv8.0.txt")["torch"]) == "torch==2.9.1"


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda path: path.name)
def test_devices_page_and_constraint_file_name_the_same_line(path: Path) -> None:
    (line,) = re.findall(r"^#   (pip install .*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    assert line.replace(".[all]", ".[vision]") in text


def test_boards_stand_with_the_file_that_their_cores_need() -> None:
    text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| ") and "Cortex-A" in line]
    given, file = {}, ""
    for boards, cores, line in rows:
        file = found[1] if (found := re.search(r"deploy/(constraints-[\w.]+)\.txt", line)) else file
        given[boards.strip()] = file
        old = re.search(r"A5[37]|A7[23]\b", cores) is not None
        assert file == ("constraints-armv8.0" if old else "constraints-aarch64"), boards
    assert len(given) >= 4


def test_devices_page_names_every_constraint_file() -> None:
    text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    assert set(re.findall(r"deploy/(constraints-[\w.]+\.txt)", text)) == {path.name for path in CONSTRAINTS}


def test_image_keeps_the_calibration_and_installs_pinned_versions() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    assert re.search(r"FEDLP_CACHE_DIR=/state/", dockerfile)
    installs = [line for line in dockerfile.splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("--constraint constraints.txt" in line for line in installs)
    admitted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE)
    assert {f"!{source}" for sources in copied for source in sources.split()} <= set(admitted)


def test_mac_with_an_intel_processor_is_refused_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = object.__new__(check_platform().CheckPlatform)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    hook.initialize("standard", {})
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(SystemExit, match=r"^error: .* no builds for Macs with Intel processors.*[^\n]\Z"):
        hook.initialize("standard", {})


def test_32_bit_system_is_refused_by_one_line_before_anything_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = object.__new__(check_platform().CheckPlatform)
    hook.initialize("standard", {})
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    with pytest.raises(SystemExit, match=r"^error: FedLP Edge needs a 64-bit operating system.*[^\n]\Z"):
        hook.initialize("standard", {})


def test_image_runs_under_a_number_that_is_not_roots_and_under_any_other_with_group_0() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) == ["10001"]
    assert "install -d -o fedlp -g 0 -m 775 /state /runs" in dockerfile


def make(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(ROOT / "Makefile", directory)
    command = ["make", "-s", "--eval=show: ; @echo $${PYTHONPATH-none} $${PIP_TARGET-none} $$PIP_USER", *arguments]
    surroundings = {**os.environ, **environment}
    return subprocess.run(command, cwd=directory, env=surroundings, capture_output=True, text=True, check=False)


def test_make_installs_into_its_environment_whatever_the_shell_is_set_up_for(tmp_path: Path) -> None:
    done = make(tmp_path, "show", PYTHONPATH="/opt/ros", PIP_TARGET="/packages", PIP_USER="1", PYTHONHOME="/nowhere")
    assert (done.stdout, done.stderr) == ("none none 0\n", "")


def test_make_puts_pip_into_an_environment_of_uv(tmp_path: Path) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$*" >> calls\ncase "$*" in *"import pip"*) exit 1;; *) echo --group;; esac\n')
    python.chmod(0o755)
    (tmp_path / "pyproject.toml").touch()
    assert make(tmp_path, "setup", f"PYTHON={sys.executable}").returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:3] == ["-c import pip", "-m ensurepip", "-m pip install --quiet --upgrade pip"]


def test_make_runs_nothing_of_the_place_that_a_checkout_was_copied_from(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    ready = tmp_path / ".venv" / ".ready"
    for place in ("", str(tmp_path.resolve())):
        ready.write_text(place)
        assert make(tmp_path, "show").returncode == 0
    ready.write_text("/home/me/before\n")
    refused = make(tmp_path, "show")
    assert refused.returncode == 2
    assert f".venv was made in /home/me/before, and this is {tmp_path.resolve()}: make clean" in refused.stderr
    assert make(tmp_path, "clean").returncode == 0
    assert not ready.exists()


@pytest.mark.parametrize("service", ["fedlp-agent", "fedlp-coordinator"])
def test_service_needs_no_newer_systemd_than_boards_have(service: str) -> None:
    unit = (ROOT / "deploy" / f"{service}.service").read_text(encoding="utf-8")
    assert "%" not in unit, "%d is unknown to Ubuntu 22.04, and so to JetPack 6"
    assert "LoadCredential=broker-password:/etc/fedlp/broker-password" in unit


def test_coordinator_is_started_again_after_a_crash_alone() -> None:
    unit = (ROOT / "deploy" / "fedlp-coordinator.service").read_text(encoding="utf-8")
    assert f"\nSuccessExitStatus={EXIT_STOPPED}\nRestart=on-failure\n" in unit
    assert f"\nRestartPreventExitStatus={EXIT_ERROR} {EXIT_INCOMPLETE}\n" in unit
