"""Where a roll-out stands, as people see it."""

from __future__ import annotations

from pathlib import Path

from coordinator.rollout.rollout_directory import DeviceStanding, RolloutDirectory
from coordinator.rollout.rollout_status_file import RolloutStatusFile
from fedlp_edge.core.rollout.rollout_events import DeviceSettled, InstallOrdered, RolloutBegan
from fedlp_edge.core.rollout.rollout_machine import RolloutMachine
from fedlp_edge.core.rollout.rollout_settings import RolloutSettings
from fedlp_edge.wire.messages import InstallReport, InstallState, ShadowFigures

AGREES = ShadowFigures(inputs=8, agreement=0.75)


class Watched:
    """A roll-out to ``a``, then ``b``, and its status file."""

    def __init__(self, directory: Path) -> None:
        self.now = 0.0
        self.directory = RolloutDirectory(directory)
        self.machine = RolloutMachine(RolloutSettings())
        self.file = RolloutStatusFile(self.directory, self.machine, lambda: self.now)

    def begin(self) -> None:
        self.machine.take(RolloutBegan((("a",), ("b",))), self.now)
        self.machine.poll()
        self.machine.take(InstallOrdered("a"), self.now)

    def report(self, state: InstallState) -> None:
        report = InstallReport(run="r", device="a", release="r", state=state, shadow=AGREES)
        self.file.reported(report)


def test_nothing_is_written_before_there_is_a_device(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.file.write()
    assert not watched.directory.has_status


def test_device_stands_where_its_last_report_says_until_it_is_settled(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.begin()
    watched.file.give("a", "model.onnx")
    watched.file.write()
    assert watched.directory.status().devices == {
        "a": DeviceStanding(group=1, file="model.onnx", state="told"),
        "b": DeviceStanding(group=2, state="away"),
    }
    watched.report("probation")
    watched.file.write()
    assert watched.directory.status().devices["a"] == DeviceStanding(
        group=1, file="model.onnx", state="probation", shadow=AGREES
    )
    watched.machine.take(DeviceSettled("a", "failed", "it is too slow"), watched.now)
    watched.file.write()
    assert watched.directory.status().devices["a"] == DeviceStanding(
        group=1, file="model.onnx", state="failed", reason="it is too slow", shadow=AGREES
    )


def test_file_is_written_once_a_second_and_only_after_a_change(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.begin()
    watched.now = 10.0
    watched.file.tick()
    assert watched.directory.status().devices["a"].state == "told"
    watched.report("probation")
    watched.now = 10.5
    watched.file.tick()
    assert watched.directory.status().devices["a"].state == "told"
    watched.now = 11.0
    watched.file.tick()
    assert watched.directory.status().devices["a"].state == "probation"
    (tmp_path / "status.json").unlink()
    watched.now = 20.0
    watched.file.tick()
    assert not watched.directory.has_status


def test_device_is_left_out_until_it_is_in_a_group(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.begin()
    watched.file.leave_out("b", "no file suits it")
    watched.file.leave_out("c", "no file suits it")
    watched.file.write()
    assert watched.directory.status().left_out == {"c": "no file suits it"}


def test_what_an_exam_has_found_stays_when_the_device_leaves_or_the_process_ends(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    watched.begin()
    watched.file.give("a", "model.onnx")
    watched.file.leave_out("c", "no file suits it")
    watched.report("probation")
    watched.file.gone("a")
    watched.file.write()
    told = DeviceStanding(group=1, file="model.onnx", state="told", shadow=AGREES)
    assert watched.directory.status().devices["a"] == told

    later = Watched(tmp_path)
    later.begin()
    later.file.take_up()
    later.file.write()
    assert later.directory.status() == watched.directory.status()
