from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import StorageError
from fedlp_edge.reporting.events import AnyEvent, BrokerReconnected, DeviceLeft
from fedlp_edge.reporting.log import EventLog, EventReader, read_events


def test_reads_back_what_was_written(tmp_path: Path, events: list[AnyEvent]) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog.open(path) as log:
        for event in events:
            log.write(event)

    assert read_events(path) == events
    assert path.read_bytes().count(b"\n") == len(events)


def test_shows_an_event_to_readers_at_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    reader = EventReader(path)
    assert reader.poll() == []

    with EventLog.open(path) as log:
        log.write(DeviceLeft(time=1.0, device="a"))
        assert reader.poll() == [DeviceLeft(time=1.0, device="a")]
        log.write(BrokerReconnected(time=2.0))
        assert reader.poll() == [BrokerReconnected(time=2.0)]
    assert reader.poll() == []


def test_ignores_half_a_line_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"BrokerReconnected","time":1.0}\n{"event":"Device')
    reader = EventReader(path)

    assert reader.poll() == [BrokerReconnected(time=1.0)]
    with path.open("ab") as file:
        file.write(b'Left","time":2.0,"device":"a"}\n')
    assert reader.poll() == [DeviceLeft(time=2.0, device="a")]


@pytest.mark.parametrize("rest", [b"x", b'{"event":"Dev' * 1000])
def test_drops_half_a_line_when_writing_goes_on(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"BrokerReconnected","time":1.0}\n' + rest)

    with EventLog.open(path) as log:
        log.write(BrokerReconnected(time=2.0))

    assert read_events(path) == [BrokerReconnected(time=1.0), BrokerReconnected(time=2.0)]


def test_empties_a_log_that_holds_half_a_line_only(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event"')

    EventLog.open(path).close()

    assert path.read_bytes() == b""


def test_skips_what_was_there_if_asked_to(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog.open(path) as log:
        log.write(BrokerReconnected(time=1.0))
        reader = EventReader(path, skip_existing=True)
        log.write(BrokerReconnected(time=2.0))

        assert reader.poll() == [BrokerReconnected(time=2.0)]


@pytest.mark.parametrize("line", [b'{"event":"Unheard","time":1.0}\n', b"[]\n"])
def test_names_the_line_that_is_no_event(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"BrokerReconnected","time":1.0}\n' + line)

    with pytest.raises(StorageError, match=r"events\.jsonl:2: written by another version .* update FedLP Edge here"):
        read_events(path)


@pytest.mark.parametrize("line", [b'{"event":"Broker\n', b"\0\0\0\n", b"\xff\n", b"\n"])
def test_leaves_out_what_a_power_cut_has_left_of_a_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line + b'{"event":"BrokerReconnected","time":1.0}\n')
    assert read_events(path) == [BrokerReconnected(time=1.0)]


def test_refuses_a_log_in_a_directory_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened for writing: No such file or directory"):
        EventLog.open(tmp_path / "nowhere" / "events.jsonl")


def test_names_the_file_that_a_full_disk_has_no_room_for(events: list[AnyEvent]) -> None:
    with (
        EventLog.open(Path("/dev/full")) as log,
        pytest.raises(StorageError, match=r"cannot write /dev/full: No space left"),
    ):
        log.write(events[0])
