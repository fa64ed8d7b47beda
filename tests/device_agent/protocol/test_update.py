from __future__ import annotations

import msgspec
import pytest

from device_agent.protocol.update import Update, UpdateId
from fedlp_edge.wire.messages import Offer
from tests.device_agent.support import update


@pytest.mark.parametrize(("size", "chunks"), [(0, 0), (1, 1), (10, 1), (11, 2), (25, 3)])
def test_counts_the_chunks_of_its_blob(size: int, chunks: int) -> None:
    assert update(size=size).chunk_count == chunks


def test_tells_two_trainings_of_one_round_apart() -> None:
    one = update(3)
    other = msgspec.structs.replace(one, digest="0" * 64)
    assert one.id == UpdateId("run", 3, one.digest)
    assert one.id != other.id


def test_offers_all_that_the_coordinator_needs_to_judge_it() -> None:
    finished = msgspec.structs.replace(update(3), compute="bfloat16")
    assert finished.offer("0002-b", heard=4) == Offer(
        run="run",
        round=3,
        device="pi",
        session="0002-b",
        digest=finished.digest,
        size=25,
        units=finished.units,
        samples=100,
        loss=0.5,
        seconds=1.0,
        bytes_down=10,
        peak_memory=1000,
        compute="bfloat16",
        chunk_bytes=10,
        heard=4,
    )


def test_reads_back_what_the_outbox_has_written() -> None:
    finished = update(3)
    assert msgspec.json.decode(msgspec.json.encode(finished), type=Update) == finished
    with pytest.raises(msgspec.ValidationError, match=r"^Expected `int` >= 0 - at `\$\.round`$"):
        msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(finished, round=-1)), type=Update)
