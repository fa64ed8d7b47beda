"""Decides which file of a release each device gets, and makes the orders that tell the devices so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.rollout.file_choice import choose_file, offered_files, why_none
from coordinator.rollout.ordered_files import METADATA_SUFFIX, OrderedFiles, OrderFiles
from coordinator.rollout.release_files import ReleaseFile, self_test_of
from coordinator.rollout.rollout_directory import RolloutPlan
from coordinator.transfer.model_server import ModelServer
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Install, ModelOffer, NamedFile, UnitVersion


@dataclass
class RolloutFiles:
    """What devices may get.

    Attributes:
        files: Files of the release.
        planned: Depth of each device in the run of the release, by id; empty where there was none.
        signed: Signs that a device gets a file, and returns all that it needs; None if files are not signed.
    """

    files: tuple[ReleaseFile, ...]
    planned: Mapping[str, int] = field(default_factory=dict)
    signed: OrderFiles | None = None


class InstallOrders:
    """The orders of one roll-out; a device keeps the file that was once chosen for it.

    Args:
        plan: What was asked for.
        files: What devices may get.
        self_tests: Directory of the self-tests that were made for the roll-out.
        server: Serves the files that orders name.
    """

    def __init__(self, plan: RolloutPlan, files: RolloutFiles, self_tests: Path, server: ModelServer) -> None:
        self._plan = plan
        self._files = files
        self._self_tests = self_tests
        self._server = server
        self._file_of: dict[str, ReleaseFile] = {}
        self._installs: dict[str, Install] = {}
        self._versions: dict[Path, UnitVersion] = {}

    def choose(self, device: str, facts: DeviceFacts | None) -> str:
        """Chooses the file of a device, once; returns why it gets none, or an empty text.

        Args:
            device: Id of the device.
            facts: What the device says of itself; None if it has not.
        """
        if device in self._file_of:
            return ""
        files, wishes = self._files.files, self._plan.wishes
        file = choose_file(files, wishes, facts, self._files.planned.get(device))
        if file is None:
            return why_none(files, wishes, facts)
        self._file_of[device] = file
        return ""

    def file_name(self, device: str) -> str:
        """Returns the name of the file that was chosen for a device."""
        return self._file_of[device].path.name

    def make_self_tests(self, devices: Iterable[str]) -> None:
        """Makes the self-tests of the files that were chosen for devices, so that one that does not run is found.

        Raises:
            OperatorError: A file does not run here.
        """
        if self._files.signed is None:
            for file in {self._file_of[device] for device in devices}:
                self_test_of(file, self._self_tests)

    def order(self, device: str, facts: DeviceFacts | None) -> Install:
        """Returns what a device is told, for which a file was chosen; always the same."""
        if device not in self._installs:
            self._installs[device] = self._install(device, facts)
        return self._installs[device]

    def _install(self, device: str, facts: DeviceFacts | None) -> Install:
        file = self._file_of[device]
        offered = offered_files(self._files.files, self._plan.wishes, facts, file)
        if self._files.signed is not None:
            found = self._files.signed(device, file.path, [further.path for further in offered if further != file])
        else:
            found = self._unsigned(file, offered)
        return Install(
            run=self._plan.run,
            device=device,
            release=self._plan.release,
            files=tuple(self._named(name, path) for name, path in found.files.items()),
            model=found.model,
            self_test=found.self_test,
            shadow=self._plan.shadow,
            probation_seconds=self._plan.probation_seconds,
            offers=tuple(
                ModelOffer(
                    model=found.choices[further.path][0],
                    self_test=found.choices[further.path][1],
                    depth=further.depth,
                    precision=further.precision,
                    value=further.value,
                    warning=further.warning,
                )
                for further in offered
                if further.path in found.choices
            ),
            higher=file.higher,
        )

    def _unsigned(self, file: ReleaseFile, offered: Sequence[ReleaseFile]) -> OrderedFiles:
        """Returns what a device gets that trusts who may speak as the coordinator."""
        tests = {each: self_test_of(each, self._self_tests) for each in (file, *offered)}
        return OrderedFiles(
            {path.name: path for each, test in tests.items() for path in (each.path, test)},
            file.path.name,
            tests[file].name,
            {each.path: (each.path.name, tests[each].name) for each in offered},
        )

    def _named(self, name: str, path: Path) -> NamedFile:
        if path in self._versions and path.suffix != METADATA_SUFFIX:
            return NamedFile(name, self._versions[path])
        content = path.read_bytes()
        unit = f"file-{digest_of(content)[:16]}"
        self._server.put(unit, content)
        (version,) = self._server.versions([unit])
        self._versions[path] = version
        return NamedFile(name, version)
