"""An update is either whole in the outbox or not there, whenever the power goes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import pytest

from device_agent.outbox import Outbox
from device_agent.protocol.update import Update
from fedlp_edge.wire.concat_buffer import ConcatBuffer
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import UnitPayload
from tests.device_agent.support import update

CONTENT = b"\x01" * 25


def put(outbox: Outbox, entry: Update) -> None:
    """Puts an update of the bytes that ``support.update`` gives it."""
    with tempfile.TemporaryDirectory() as directory:
        files = {part.unit: Path(directory, part.unit) for part in entry.units}
        for part in entry.units:
            files[part.unit].write_bytes(bytes([entry.round]) * part.size)
        outbox.put(entry, files)
        assert list(Path(directory).iterdir()) == []


def test_keeps_updates_over_a_restart(tmp_path: Path):
    two_parts = msgspec.structs.replace(update(1), units=(UnitPayload("L1", 0, 20), UnitPayload("H1", 20, 5)))
    put(Outbox.open(tmp_path), two_parts)
    again = Outbox.open(tmp_path)
    assert again.entries() == [two_parts]
    assert b"".join(again.blob(two_parts.id).cut(0, 25)) == CONTENT


def test_sends_bytes_that_are_at_hand_without_reading_the_files_again(tmp_path: Path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "L1").write_bytes(CONTENT)
    outbox, whole = Outbox.open(tmp_path / "outbox"), ConcatBuffer([CONTENT])
    outbox.put(update(1), {"L1": tmp_path / "work" / "L1"}, whole)
    assert outbox.blob(update(1).id) is whole
    assert b"".join(Outbox.open(tmp_path / "outbox").blob(update(1).id).cut(0, 25)) == CONTENT
    outbox.forget(update(1).id)
    with pytest.raises(KeyError):
        outbox.blob(update(1).id)


def test_lists_the_oldest_round_first(tmp_path: Path):
    outbox = Outbox.open(tmp_path)
    for round in (10, 2):
        put(outbox, update(round))
    assert [entry.round for entry in outbox.entries()] == [2, 10]


def test_keeps_an_update_in_which_everything_was_pruned(tmp_path: Path):
    empty = update(1, size=0)
    put(Outbox.open(tmp_path), empty)
    assert len(Outbox.open(tmp_path).blob(empty.id)) == 0
    assert empty.chunk_count == 0


def test_forgets_without_a_trace(tmp_path: Path):
    outbox = Outbox.open(tmp_path)
    put(outbox, update(1))
    outbox.forget(update(1).id)
    outbox.forget(update(1).id)
    assert list(tmp_path.iterdir()) == []
    assert Outbox.open(tmp_path).entries() == []


def test_drops_updates_of_a_device_of_another_name(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    outbox = Outbox.open(tmp_path)
    put(outbox, update(1))
    put(outbox, msgspec.structs.replace(update(2), device="cam"))
    outbox.drop_others("pi")
    assert (
        [entry.round for entry in outbox.entries()] == [entry.round for entry in Outbox.open(tmp_path).entries()] == [1]
    )
    assert [record.getMessage() for record in caplog.records] == [
        "round 2 of run run: the update is dropped, as it is of the device cam and this one is called pi"
    ]


def test_puts_an_update_twice_without_harm(tmp_path: Path):
    outbox = Outbox.open(tmp_path)
    put(outbox, update(1))
    put(outbox, update(1))
    assert len(list(tmp_path.iterdir())) == 2


def whole_files(directory: Path) -> dict[str, bytes]:
    outbox = Outbox.open(directory)
    put(outbox, update(1))
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("kept", ["delta", "json"])
def test_removes_halves_that_a_power_cut_left(tmp_path: Path, kept: str):
    for path in (tmp_path / name for name in whole_files(tmp_path)):
        if not path.name.endswith(kept):
            path.unlink()
    assert Outbox.open(tmp_path).entries() == []
    assert list(tmp_path.iterdir()) == []


def test_removes_files_that_were_still_being_written(tmp_path: Path):
    (tmp_path / "run.1.abc.json.part").write_bytes(b"half")
    assert Outbox.open(tmp_path).entries() == []
    assert list(tmp_path.iterdir()) == []


def test_survives_a_cut_at_every_byte_of_either_file(tmp_path: Path):
    whole = whole_files(tmp_path)
    for name, content in whole.items():
        for length in range(len(content)):
            for other, rest in whole.items():
                (tmp_path / other).write_bytes(content[:length] if other == name else rest)
            assert Outbox.open(tmp_path).entries() == []


def test_does_not_trust_an_entry_under_another_name(tmp_path: Path):
    entry = msgspec.structs.replace(update(1), run="../elsewhere")
    (tmp_path / "x.json").write_bytes(msgspec.json.encode(entry))
    assert Outbox.open(tmp_path).entries() == []


def test_offers_itself_with_the_session_of_the_present_life():
    offer = update(4).offer("0009-z")
    assert (offer.session, offer.round, offer.digest) == (
        "0009-z",
        4,
        digest_of(b"\x04" * 25),
    )


def test_round_trips_every_field_through_its_file(tmp_path: Path):
    put(Outbox.open(tmp_path), update(1))
    (path,) = tmp_path.glob("*.json")
    assert msgspec.json.decode(path.read_bytes(), type=Update) == update(1)
