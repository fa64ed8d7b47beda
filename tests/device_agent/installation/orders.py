"""Orders and exams in literal values: what the tests of installations talk about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from device_agent.installation.exam_process import ExamOrder, ExamResult
from device_agent.installation.installer import Installer, InstallerOptions
from device_agent.installation.version_store import VersionStore
from device_agent.protocol.events import FilesWanted
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Install, InstallReport, NamedFile, UnitVersion
from tests.fleets.world import InTurn


def named(name: str, content: bytes) -> NamedFile:
    digest = digest_of(content)
    return NamedFile(name, UnitVersion(f"file-{digest[:16]}", digest, len(content), 40))


def install_of(content: bytes, release: str = "r1", **changes: object) -> Install:
    """An order to install a model of these bytes, with a self-test."""
    return Install(
        **{
            "run": f"deploy-{release}",
            "device": "pi",
            "release": release,
            "files": (named("m.onnx", content), named("m.selftest.npz", b"test")),
            "model": "m.onnx",
            "self_test": "m.selftest.npz",
            **changes,
        }
    )


def files_of(directory: Path, content: bytes) -> dict[str, Path]:
    """The files of such an order as they were downloaded."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = {"m.onnx": directory / digest_of(content), "m.selftest.npz": directory / digest_of(b"test")}
    for path, data in zip(paths.values(), (content, b"test"), strict=True):
        path.write_bytes(data)
    return paths


MEASURED = {
    content: MeasuredCost(milliseconds={90: milliseconds}, mean_milliseconds=milliseconds, memory=1000)
    for content, milliseconds in ((b"fast", 1.0), (b"slow", 3.0), (b"slower", 4.0))
}
"""What an answer of a model of these bytes costs."""


class Exam:
    """An exam that finds what a test says, by the bytes of the model; everything is fine by default."""

    def __init__(self) -> None:
        self.orders: list[ExamOrder] = []
        self.finds: Callable[[bytes, ExamOrder], ExamResult] = lambda _content, _order: ExamResult()

    def run(self, order: ExamOrder) -> ExamResult:
        self.orders.append(order)
        return self.finds(Path(order.model).read_bytes(), order)

    def stop(self) -> None:
        pass


class Serving:
    """What answers with the installed model."""

    def __init__(self) -> None:
        self.ends = 0
        self.answering = False


class Board:
    """A device's models, through the lives of its agent.

    Args:
        directory: of the device.
        keep: versions that are kept.
    """

    def __init__(self, directory: Path, keep: int = 2) -> None:
        self.directory = directory
        self.exam = Exam()
        self.reports: list[InstallReport] = []
        self.wanted: list[FilesWanted] = []
        self.store = VersionStore(directory / "models")
        self._keep = keep
        self.trusts: Callable[[Path], bool] = lambda _path: True
        self.measure: Callable[[Path], MeasuredCost] = lambda path: MEASURED[path.read_bytes()]
        self.serving = Serving()
        self.installer = self.start()

    def start(self) -> Installer:
        """Another life of the agent, up to where it has recovered."""
        options = InstallerOptions(keep=self._keep, trusts=self.trusts, measure=self.measure, serving=self.serving)
        self.installer = Installer("pi", self.store, options, InTurn(), self._emit, self.exam)
        self.installer.recover()
        return self.installer

    def install(self, content: bytes, release: str = "r1", **changes: object) -> str:
        """Installs a model up to the end of its probation; returns the last state."""
        order = install_of(content, release, **changes)
        self.installer.install(order, files_of(self.directory / "releases", content))
        self.end_probation()
        return self.reports[-1].state

    def end_probation(self) -> None:
        if self.reports and self.reports[-1].state == "probation":
            self.installer.watch(0.0)
            self.installer.poll(1e9)

    @property
    def current(self) -> bytes:
        return self.store.link.read_bytes() if self.store.current else b""

    def _emit(self, what: InstallReport | FilesWanted) -> None:
        if isinstance(what, FilesWanted):
            self.wanted.append(what)
        else:
            self.reports.append(what)
