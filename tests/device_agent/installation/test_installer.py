"""Installations: what is tried before the switch, what is watched after it, and that the old model is always there.

``kill -9`` comes before every step that an installation leaves on the disk, as an exception that nothing catches.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device_agent.installation.exam_process import ExamOrder, ExamResult
from device_agent.installation.installation_state import load_state
from device_agent.installation.installer import InstallerOptions
from device_agent.installation.target_source import DigestSource, FileWantedError, ReleaseAssignment
from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.errors import PeerError
from fedlp_edge.serving.serving_record import ServingRecord
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import ModelOffer, ShadowFigures, ShadowRules
from tests.device_agent.installation.orders import MEASURED, Board, files_of, install_of, named


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process leaves to the kernel what it wrote, so waiting for the disk changes nothing here."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)


class KillError(BaseException):
    """kill -9, as seen from inside."""


@contextmanager
def watched(at: int | None = None, error: type[BaseException] | OSError = KillError) -> Iterator[list[str]]:
    """Counts what changes the disk; the step of number ``at``, from 1, fails instead."""
    steps: list[str] = []

    def counted(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object, **more: object) -> object:
            steps.append(name)
            if at is not None and len(steps) == at:
                raise error
            if at is not None and len(steps) > at and error is KillError:
                raise error  # the dead do nothing any more
            return real(*args, **more)

        return act

    with pytest.MonkeyPatch.context() as patch:
        for name in ("replace", "unlink", "fsync", "link", "symlink", "mkdir", "rmdir", "open"):
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield steps


def test_model_is_tried_and_switched_to(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.installer.install(install_of(b"one"), files_of(tmp_path / "releases", b"one"))
    assert [report.state for report in board.reports] == ["testing", "probation"]
    assert board.current == b"one"
    board.end_probation()
    assert board.reports[-1].state == "installed"
    tested, first = board.exam.orders
    assert Path(tested.model).name == "m.onnx"
    assert Path(tested.self_test).read_bytes() == b"test"
    assert first.model == str(board.store.link), "first inferences open the link, as applications do"


def test_probation_lasts_as_long_as_was_ordered(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.installer.install(install_of(b"one", probation_seconds=30.0), files_of(tmp_path / "releases", b"one"))
    board.installer.watch(100.0)
    board.installer.poll(129.0)
    assert board.reports[-1].state == "probation"
    board.installer.poll(130.0)
    assert board.reports[-1].state == "installed"
    assert board.installer.next_wakeup() is None


def fails(what: str) -> Callable[[bytes, ExamOrder], ExamResult]:
    """An exam in which the model ``new`` fails in one way."""

    def finds(content: bytes, order: ExamOrder) -> ExamResult:
        if content == b"old":
            return ExamResult()
        if what == "self-test":
            return ExamResult(problem="answers its self-test otherwise")
        if what == "first" and order.model.endswith("current.onnx"):
            return ExamResult(problem="ended its exam by SIGSEGV")
        if what == "agreement" and order.old:
            return ExamResult(shadow=ShadowFigures(inputs=20, agreement=0.1))
        if what == "loss" and order.old:
            return ExamResult(shadow=ShadowFigures(inputs=20, agreement=0.9, old_right=0.9, new_right=0.7))
        return ExamResult()

    return finds


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("self-test", "the model answers its self-test otherwise"),
        ("first", "the model failed its first inferences: it ended its exam by SIGSEGV"),
        ("agreement", "the model agrees with the old one on 10% of 20 inputs of this device; 50% are asked for"),
        ("loss", "the model answers 70% of 20 inputs of this device rightly, and the old one 90%"),
    ],
)
def test_model_that_fails_leaves_the_old_one_in_its_place(tmp_path: Path, what: str, reason: str) -> None:
    board = Board(tmp_path)
    assert board.install(b"old") == "installed"
    live = board.store.directory / "live"
    live.mkdir(exist_ok=True)
    (live / "000.npy").write_bytes(b"input")
    before = board.store.current
    board.exam.finds = fails(what)
    assert board.install(b"new", "r2") == "failed"
    assert board.reports[-1].reason == reason
    assert (board.store.current, board.current) == (before, b"old")
    assert len(list((board.store.directory / "versions").iterdir())) == 1, "nothing is left of it"


def test_exam_beside_the_old_model_can_be_left_out(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    (board.store.directory / "live").mkdir(exist_ok=True)
    (board.store.directory / "live" / "000.npy").write_bytes(b"input")
    board.exam.finds = fails("agreement")
    assert board.install(b"new", "r2", shadow=ShadowRules(inputs=0)) == "installed"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"failures": 1, "reason": "bad input"}, "the model failed its first inferences: bad input"),
        ({"starts": 4}, "what answers with the model has started 4 times since the switch: a crash loop"),
    ],
)
def test_model_with_which_the_serving_process_fares_badly_is_taken_back(
    tmp_path: Path, record: dict, reason: str
) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.installer.install(install_of(b"new", "r2"), files_of(tmp_path / "releases", b"new"))
    board.installer.watch(0.0)
    file = str(board.store.link.resolve())
    (board.store.directory / "serving.json").write_bytes(msgspec.json.encode(ServingRecord(file=file, **record)))
    board.installer.poll(1.0)
    assert (board.reports[-1].state, board.reports[-1].reason) == ("failed", reason)
    assert board.current == b"old"


def on_probation(directory: Path, *, answering: bool = True) -> Board:
    """A device that has switched to another model ten seconds ago, for a probation of as long."""
    board = Board(directory)
    board.install(b"old")
    board.serving.answering, board.serving.ends = answering, 5
    board.installer.install(install_of(b"new", "r2", probation_seconds=10.0), files_of(directory / "releases", b"new"))
    board.installer.watch(0.0)
    board.installer.poll(9.0)
    assert board.reports[-1].state == "probation"
    return board


def test_crash_loop_that_is_longer_than_the_probation_is_waited_for(tmp_path: Path) -> None:
    board = on_probation(tmp_path)
    board.serving.ends, board.serving.answering = 6, False
    board.installer.poll(9.5)
    board.installer.poll(25.0)  # a slow board takes so long to start it again
    assert board.reports[-1].state == "probation"
    board.serving.ends = 7
    board.installer.poll(30.0)
    board.serving.ends = 8
    board.installer.poll(39.0)
    assert (board.reports[-1].state, board.current) == ("failed", b"old")
    assert board.reports[-1].reason == "what answers with the model has ended 3 times since the switch: a crash loop"


def test_what_ended_once_and_answers_again_for_a_whole_probation_is_no_crash_loop(tmp_path: Path) -> None:
    board = on_probation(tmp_path)
    board.serving.ends, board.serving.answering = 6, False
    board.installer.poll(9.5)
    board.serving.answering = True
    board.installer.poll(12.0)
    board.installer.poll(19.0)
    assert board.reports[-1].state == "probation"
    board.installer.poll(19.5)
    assert (board.reports[-1].state, board.current) == ("installed", b"new")


def test_what_did_not_answer_with_the_old_model_either_says_nothing_of_the_new_one(tmp_path: Path) -> None:
    board = on_probation(tmp_path, answering=False)
    board.serving.ends = 50
    board.installer.poll(10.0)
    assert (board.reports[-1].state, board.current) == ("installed", b"new")


def test_record_of_another_model_says_nothing(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    record = ServingRecord(file=str(board.store.link.resolve()), starts=9, failures=9)
    (board.store.directory / "serving.json").write_bytes(msgspec.json.encode(record))
    assert board.install(b"new", "r2") == "installed"


def test_model_that_fared_badly_before_is_judged_anew(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    for attempt in range(2):
        board.installer.install(install_of(b"new", f"r{attempt}"), files_of(tmp_path / "releases", b"new"))
        board.installer.watch(0.0)
        assert board.current == b"new"
        if attempt == 0:
            record = ServingRecord(file=str(board.store.link.resolve()), failures=1, reason="no memory")
            (board.store.directory / "serving.json").write_bytes(msgspec.json.encode(record))
        board.installer.poll(1e9)
    assert [report.state for report in board.reports if report.state in ("installed", "failed")] == [
        "installed",
        "failed",
        "installed",
    ]


def test_final_model_of_a_run_ends_a_probation(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"one")
    board.installer.install(install_of(b"two", "r2"), files_of(tmp_path / "releases", b"two"))
    assert board.installer.trying == install_of(b"two", "r2")
    (tmp_path / "final").write_bytes(b"final")
    board.installer.adopt(board.store.add(tmp_path / "final", "run-depth-1.onnx", digest_of(b"final")))
    assert board.installer.trying is None
    assert (board.reports[-1].release, board.reports[-1].state) == ("r2", "failed")
    assert board.reports[-1].reason == "the final model of a run has taken its place"
    board.end_probation()
    assert board.current == b"final"
    assert board.installer.last_word(install_of(b"two", "r2")) is None, "it may be ordered again"


def test_old_versions_are_kept_by_the_rule(tmp_path: Path) -> None:
    board = Board(tmp_path, keep=2)
    for number, content in enumerate((b"one", b"two", b"three")):
        assert board.install(content, f"r{number}") == "installed"
    state = load_state(board.store.directory)
    assert board.store.path(state.current).read_bytes() == b"three"
    assert [board.store.path(target).read_bytes() for target in state.previous] == [b"two"]
    assert len(list((board.store.directory / "versions").iterdir())) == 2


def test_same_order_again_gets_the_last_word_and_the_current_model_is_not_installed_again(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"one")
    assert board.installer.last_word(install_of(b"one")) == board.reports[-1]
    other = board.installer.last_word(install_of(b"one", "r2"))
    assert other is not None
    assert (other.state, other.release) == ("installed", "r2")
    assert board.installer.last_word(install_of(b"two", "r3")) is None
    board.start()
    assert board.installer.last_word(install_of(b"one")) == board.reports[-1], "in the next life as well"


def test_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=20_000_000))
    assert board.installer.problem(install_of(b"one"), 1_000_000) == ""
    assert board.installer.problem(install_of(b"one"), 9_000_000) == "the disk has 20 MB free, and 26 MB are needed"


def test_file_that_the_source_refuses_is_not_installed(tmp_path: Path) -> None:
    class Distrustful(DigestSource):
        def fetch(self, target: str) -> Path:
            raise PeerError(f"{target} is not signed")

    board = Board(tmp_path)
    board.installer._options = InstallerOptions(make_source=Distrustful)
    assert board.install(b"one") == "failed"
    assert board.reports[-1].reason == "m.onnx is not signed"
    assert board.exam.orders == []


def test_defect_of_a_source_ends_the_installation_alone(tmp_path: Path) -> None:
    class Broken(DigestSource):
        def fetch(self, target: str) -> Path:
            raise KeyError(target)

    board = Board(tmp_path)
    board.installer._options = InstallerOptions(make_source=Broken)
    assert board.install(b"one") == "failed"
    assert board.reports[-1].reason == "KeyError: 'm.onnx'"


def test_source_asks_for_more_files(tmp_path: Path) -> None:
    board = Board(tmp_path)
    files = files_of(tmp_path / "releases", b"one")
    board.installer.install(install_of(b"one"), {"m.selftest.npz": files["m.selftest.npz"]})
    assert board.wanted[0].names == ("m.onnx",)
    assert board.reports == []
    assert FileWantedError(["m.onnx"]).names == board.wanted[0].names
    board.installer.install(install_of(b"one"), files)
    assert board.reports[-1].state == "probation"


def test_final_model_of_a_run_takes_the_place_of_a_trial(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.installer.install(install_of(b"new", "r2"), files_of(tmp_path / "releases", b"new"))
    board.installer.watch(0.0)
    (tmp_path / "final").write_bytes(b"final")
    target = board.store.add(tmp_path / "final", "run-depth-1.onnx", "f" * 64)
    board.installer.adopt(target)
    board.installer.poll(1e9)
    assert board.current == b"final"
    state = load_state(board.store.directory)
    assert (state.current, state.candidate) == (target, None)
    assert [board.store.path(other).read_bytes() for other in state.previous] == [b"old"]


def killed(directory: Path, content: bytes, at: int | None) -> tuple[Board, list[str]]:
    """A device with a model that is killed before a step while it installs another one."""
    board = Board(directory)
    assert board.install(b"old") == "installed"
    files = files_of(directory / "releases", content)
    if content == b"bad":
        board.exam.finds = fails("self-test")
    with watched(at) as steps:
        try:
            board.installer.install(install_of(content, "r2"), files)
            board.end_probation()
        except KillError:
            pass
    return board, steps


def test_killed_before_every_step_the_old_model_is_in_its_place_and_the_new_one_gets_there(tmp_path: Path) -> None:
    _, steps = killed(tmp_path / "whole", b"new", None)
    assert len(steps) > 10
    for at, step in enumerate(steps, 1):
        board, _ = killed(tmp_path / f"{at}", b"new", at)
        assert board.current in (b"old", b"new"), f"killed before step {at}, {step}"
        confirmed = load_state(board.store.directory).candidate is None and board.current == b"new"
        reports = len(board.reports)
        installer = board.start()
        if not confirmed and len(board.reports) == reports:
            assert board.current == b"old", f"killed before step {at}, {step}"
        if installer.last_word(install_of(b"new", "r2")) is None and len(board.reports) == reports:
            installer.install(install_of(b"new", "r2"), files_of(board.directory / "releases", b"new"))
        board.end_probation()
        assert board.current == b"new", f"killed before step {at}, {step}"
        last = installer.last_word(install_of(b"new", "r2"))
        assert last is not None
        assert last.state == "installed"
        assert len(list((board.store.directory / "versions").iterdir())) == 2


def test_at_the_next_start_after_a_kill_the_old_model_answers_until_the_new_one_is_tried_again(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.installer.install(install_of(b"new", "r2"), files_of(tmp_path / "releases", b"new"))
    assert board.current == b"new"
    seen: list[bytes] = []

    def finds(content: bytes, order: ExamOrder) -> ExamResult:
        seen.append(board.current)
        return ExamResult()

    board.exam.finds = finds
    board.start()  # killed during the probation
    assert seen == [b"old", b"new"], "the old one during the self-test, the new one at its first inferences"


def test_model_during_whose_trial_the_agent_ends_again_and_again_is_given_up(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")

    def ends(content: bytes, order: ExamOrder) -> ExamResult:
        raise KillError

    board.exam.finds = ends
    with pytest.raises(KillError):
        board.install(b"new", "r2")
    for _ in range(2):
        with pytest.raises(KillError):
            board.start()
    board.start()
    assert (board.reports[-1].state, board.reports[-1].reason) == (
        "failed",
        "the agent ended 3 times while it tried the model",
    )
    assert board.current == b"old"
    board.start()
    assert board.current == b"old"


def test_end_that_was_asked_for_is_not_held_against_the_model(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.installer.install(install_of(b"new", "r2"), files_of(tmp_path / "releases", b"new"))
    for _ in range(5):
        board.installer.stop()
        assert board.current == b"old"
        board.start()
        assert board.reports[-1].state == "probation"
    board.end_probation()
    assert board.current == b"new"


def test_disk_that_fills_up_at_any_step_leaves_the_old_model_running(tmp_path: Path) -> None:
    _, steps = killed(tmp_path / "whole", b"new", None)
    for at, step in enumerate(steps, 1):
        board = Board(tmp_path / f"{at}")
        board.install(b"old")
        files = files_of(board.directory / "releases", b"new")
        with watched(at, OSError(errno.ENOSPC, "No space left on device")):
            board.installer.install(install_of(b"new", "r2"), files)
            board.end_probation()
        board.start()
        board.end_probation()
        state = load_state(board.store.directory)
        assert board.store.path(state.current).read_bytes() == board.current, f"full before step {at}, {step}"
        assert board.current in (b"old", b"new")
        if board.reports[-1].state == "failed":
            assert board.current == b"old"


FULL, READ_ONLY = errno.ENOSPC, errno.EROFS


@contextmanager
def refusing(code: int, directory: Path, at: int = 1) -> Iterator[list[str]]:
    """A disk that from step ``at`` on takes nothing below a directory, and still doesn't in the next life of the agent.

    A full one takes no bytes; it lets files be removed, and takes links, whose target stands in the directory.
    """
    steps: list[str] = []
    names = ("fsync", "link") if code == FULL else ("replace", "fsync", "link", "symlink", "unlink", "rmdir")

    def refused(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: Any, **more: object) -> object:
            if name == "fsync" and Path(f"/proc/self/fd/{args[0]}").is_dir():
                return None
            steps.append(name)
            if len(steps) >= at:
                raise OSError(code, os.strerror(code))
            return real(*args, **more)

        return act

    access = os.access

    def accessible(path: Path, mode: int) -> bool:
        return access(path, mode) and (code == FULL or not mode & os.W_OK or len(steps) < at - 1)

    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(os, name, refused(name, getattr(os, name)))
        patch.setattr(os, "access", accessible)
        yield steps


def later(board: Board) -> float:
    """Lets a minute pass; returns the time."""
    now = board.installer.next_wakeup() or 1e9
    for _ in range(3):
        now += 20.0
        board.installer.poll(now)
    board.end_probation()
    return now


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("code", [FULL, READ_ONLY])
def test_disk_that_takes_nothing_for_a_while_ends_with_one_model_and_takes_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, restarted: bool
) -> None:
    board = Board(tmp_path / "whole")
    board.install(b"old")
    with refusing(code, tmp_path, at=1000) as steps:
        assert board.install(b"new", "r2") == "installed"
    for at, step in enumerate(steps, 1):
        board = Board(tmp_path / f"{at}")
        board.install(b"old")
        files = files_of(board.directory / "releases", b"new")
        caplog.clear()
        with refusing(code, tmp_path, at):
            board.installer.install(install_of(b"new", "r2"), files)
            later(board)
        assert board.reports[-1].state in ("installed", "failed"), f"nobody was told, from step {at}, {step}"
        if restarted:
            with refusing(code, tmp_path):
                board.start()
                later(board)
                if code == FULL and load_state(board.store.directory).candidate is not None:
                    assert board.current == b"old", f"not proven, from step {at}, {step}"
                assert board.installer.unproven == (
                    board.current == b"new" and load_state(board.store.directory).candidate is not None
                )
        later(board)
        state = load_state(board.store.directory)
        assert state.candidate is None or not restarted, f"nothing goes on, from step {at}, {step}"
        assert board.store.path(state.current).read_bytes() == board.current, f"from step {at}, {step}"
        assert len([record for record in caplog.records if "once there is room" in record.message]) <= 1
        assert len([record for record in caplog.records if "cannot go back" in record.message]) <= 1
        if board.current == b"old":
            assert board.install(b"new", "r3") == "installed"
        assert board.current == b"new"
        assert load_state(board.store.directory).candidate is None


def test_agent_that_was_killed_on_a_full_disk_goes_on_once_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.installer.install(install_of(b"new", "r2"), files_of(tmp_path / "releases", b"new"))
    assert (board.reports[-1].state, board.current) == ("probation", b"new")
    caplog.set_level("INFO")
    for _ in range(4):  # more lives than a model may end
        with refusing(FULL, tmp_path):
            board.start()
            now = later(board)
            assert (board.current, board.installer.unproven) == (b"old", False)
            assert board.installer.next_wakeup() == now + 5.0
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    said = f"{board.store.directory}: No space left on device; the installation goes on once there is room"
    assert told == [said] * 4, "one line in each life"
    later(board)
    assert (board.reports[-1].state, board.current) == ("installed", b"new")
    assert f"{board.store.directory} can be written to again" in caplog.text


def test_link_that_cannot_be_put_back_is_put_back_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.installer.install(install_of(b"new", "r2"), files_of(tmp_path / "releases", b"new"))
    with refusing(READ_ONLY, tmp_path):
        board.end_probation()
        assert board.reports[-1].state == "failed"
        assert board.reports[-1].reason.endswith("and the model before cannot be put back yet")
        reports = len(board.reports)
        later(board)
        assert len(board.reports) == reports
    assert board.current == b"new", "it has passed, but nothing could be written"
    later(board)
    assert (board.current, board.reports[-1].state) == (b"old", "failed")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert board.install(b"new", "r3") == "installed"


def test_end_that_a_full_disk_did_not_take_is_said_at_the_next_start(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.install(b"old")
    board.exam.finds = fails("self-test")
    candidate = board.store.directory / "installation.json"
    kept: list[bytes] = []
    finds = board.exam.finds

    def fills_up(content: bytes, order: ExamOrder) -> ExamResult:
        kept.append(candidate.read_bytes())
        return finds(content, order)

    board.exam.finds = fills_up
    assert board.install(b"new", "r2") == "failed"
    candidate.write_bytes(kept[0])  # as if its end had not been written, while its files were removed
    orders = len(board.exam.orders)
    board.start()
    assert len(board.exam.orders) == orders, "there is nothing to be tried"
    assert (board.reports[-1].state, board.current) == ("failed", b"old")
    assert board.reports[-1].reason == "its files are gone, as an earlier attempt ended while the disk was full"
    assert load_state(board.store.directory).candidate is None


def test_bad_model_is_never_current_whenever_the_agent_is_killed(tmp_path: Path) -> None:
    _, steps = killed(tmp_path / "whole", b"bad", None)
    for at in range(1, len(steps) + 1):
        board, _ = killed(tmp_path / f"{at}", b"bad", at)
        assert board.current == b"old"
        board.start()
        assert board.current == b"old"


def test_device_without_a_model_goes_back_to_none(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.exam.finds = fails("first")
    assert board.install(b"new") == "failed"
    assert board.store.current == ""


def test_model_that_was_installed_by_hand_counts_as_current(tmp_path: Path) -> None:
    board = Board(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "run-depth-2.onnx").write_bytes(b"by hand")
    board.store.switch("run-depth-2.onnx")
    board.start()
    board.exam.finds = fails("first")
    assert board.install(b"new") == "failed"
    assert board.current == b"by hand"


def test_model_that_was_never_verified_answers_no_more_once_a_device_asks_for_signatures(tmp_path: Path) -> None:
    board = Board(tmp_path)
    assert board.install(b"one") == "installed"
    board.installer.install(install_of(b"two", "r2"), files_of(tmp_path / "releases", b"two"))
    assert board.reports[-1].state == "probation"
    board.trusts = lambda path: path.read_bytes() == b"one"
    board.start()
    assert (board.current, load_state(board.store.directory).candidate) == (b"one", None)
    board.trusts = lambda _path: False
    board.start()
    assert board.current == b""
    assert load_state(board.store.directory).current == ""


@pytest.mark.parametrize(("quantised", "expected"), [(b"slower", b"slow"), (b"fast", b"fast")])
def test_of_several_models_the_one_is_installed_that_is_measured_as_best(
    tmp_path: Path, quantised: bytes, expected: bytes
) -> None:
    board = Board(tmp_path)
    files = files_of(tmp_path / "releases", b"slow")
    files["m-int8.onnx"] = tmp_path / "releases" / "other"
    files["m-int8.onnx"].write_bytes(quantised)
    offers = (
        ModelOffer(model="m.onnx", self_test="m.selftest.npz", depth=2, value=0.9),
        ModelOffer(model="m-int8.onnx", depth=2, precision="int8", value=0.895),
    )
    named_files = (*install_of(b"slow").files, named("m-int8.onnx", quantised))
    board.installer.install(install_of(b"slow", offers=offers, files=named_files), files)
    board.end_probation()
    assert board.reports[-1].state == "installed"
    assert board.current == expected
    assert bool(board.exam.orders[0].self_test) == (expected == b"slow")


def test_offer_that_is_not_in_the_assignment_is_never_run(tmp_path: Path) -> None:
    """What is offered comes from whoever speaks as the coordinator; what may run is what was signed for this device."""

    class Assigned(DigestSource):
        def assigned(self) -> ReleaseAssignment:
            return ReleaseAssignment("r1", "m.onnx", "m.selftest.npz", {"m.onnx": "m.selftest.npz"})

    board = Board(tmp_path)
    measured: list[bytes] = []

    def measure(path: Path) -> MeasuredCost:
        measured.append(path.read_bytes())
        return MEASURED[measured[-1]]

    board.installer._options = InstallerOptions(make_source=Assigned, measure=measure)
    files = files_of(tmp_path / "releases", b"slow") | {"evil.onnx": tmp_path / "evil"}
    (tmp_path / "evil").write_bytes(b"fast")
    evil = ModelOffer(model="evil.onnx", depth=2, value=1.0)
    without_test = ModelOffer(model="m.onnx", self_test="", depth=2, value=0.9)
    order = install_of(
        b"slow", offers=(evil, without_test), files=(*install_of(b"slow").files, named("evil.onnx", b"fast"))
    )
    board.installer.install(order, files)
    board.end_probation()
    assert (measured, board.current) == ([b"slow"], b"slow")
    assert all(Path(tried.self_test).read_bytes() == b"test" for tried in board.exam.orders)
    board.installer.install(msgspec.structs.replace(order, run="again", offers=(evil,)), files)
    assert board.reports[-1].reason == "none of the models that are offered is assigned to this device"
    assert measured == [b"slow"]
