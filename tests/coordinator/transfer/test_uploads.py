from __future__ import annotations

import itertools
from pathlib import Path

import msgspec

from coordinator.fleet.link_rates import Links, UnknownLinks
from coordinator.limits import LIMITS
from coordinator.transfer.uploads import CompletedUpload, UploadScheduler
from fedlp_edge.wire.chunks import Chunk, split
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import Grant, Offer
from fedlp_edge.wire.ranges import expand

CHUNK = 10


def offer_of(device: str, blob: bytes) -> Offer:
    return Offer(
        run="r",
        round=1,
        device=device,
        session="s",
        digest=digest_of(blob),
        size=len(blob),
        units=(),
        samples=1,
        loss=0.0,
        seconds=0.0,
        bytes_down=0,
    )


class Fleet:
    """An upload scheduler, what it granted, and the blobs of its devices."""

    def __init__(self, directory: Path, credit: int = LIMITS.credit_chunks, links: Links | None = None) -> None:
        self.directory = directory
        self.grants: list[Grant] = []
        self.uploads = UploadScheduler(CHUNK, self.grant, credit, patience_seconds=5, links=links)
        self.blobs: dict[str, bytes] = {}
        self.tokens = itertools.count(1)
        self.unacknowledged: list[int] = []

    def grant(self, grant: Grant) -> int:
        self.grants.append(grant)
        self.unacknowledged.append(next(self.tokens))
        return self.unacknowledged[-1]

    def acknowledge(self, now: float = 0.0) -> None:
        """The broker has taken all grants."""
        for token in self.unacknowledged:
            self.uploads.delivered(token, now)
        self.unacknowledged.clear()

    def offer(self, device: str, chunks: int, now: float = 0.0, heard: int | None = None) -> CompletedUpload | None:
        blob = device.encode().ljust(chunks * CHUNK, b".")[: chunks * CHUNK]
        self.blobs[device] = blob
        offer = msgspec.structs.replace(offer_of(device, blob), heard=heard)
        return self.uploads.offer(offer, self.directory / device, now)

    def granted(self) -> list[tuple[str, int]]:
        """(device, chunk) of everything granted since the last call."""
        found = [(g.device, i) for g in self.grants for i in expand(g.missing, 10**6)]
        self.grants.clear()
        return found

    def send(self, device: str, index: int, now: float = 0.0) -> CompletedUpload | None:
        blob = self.blobs[device]
        digest = digest_of(blob)
        (data,) = split(blob, digest, CHUNK, [(index, index + 1)])
        return self.uploads.chunk(device, Chunk.parse(data), len(data), now)


def test_grants_and_completes_a_small_update(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    assert fleet.offer("a", 3) is None
    assert fleet.granted() == [("a", 0), ("a", 1), ("a", 2)]
    assert fleet.send("a", 2) is None
    assert fleet.send("a", 0) is None
    whole = fleet.send("a", 1)
    assert whole is not None
    assert whole.path.read_bytes() == fleet.blobs["a"]
    assert whole.bytes_seen == 3 * (CHUNK + 36)


def test_completes_at_once_when_everything_was_pruned(tmp_path: Path) -> None:
    whole = Fleet(tmp_path).offer("a", 0)
    assert whole is not None
    assert whole.path.read_bytes() == b""


def test_never_grants_more_than_the_credit_to_all_devices_together(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for number in range(20):
        fleet.offer(f"d{number:02d}", 100)
    under_way = fleet.granted()
    assert len(under_way) == LIMITS.credit_chunks
    assert {device for device, _ in under_way} == {
        f"d{n:02d}" for n in range(LIMITS.credit_chunks // LIMITS.grant_chunks)
    }
    finished = set()
    for _ in range(20 * 100):
        device, index = under_way.pop(0)
        if fleet.send(device, index):
            finished.add(device)
        under_way += fleet.granted()
        assert len(under_way) <= LIMITS.credit_chunks
    assert len(finished) == 20
    assert under_way == []


def test_grants_only_what_is_missing_when_a_device_offers_again(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.offer("a", 4)
    fleet.granted()
    fleet.send("a", 1)
    fleet.granted()
    fleet.offer("a", 4)
    assert fleet.granted() == [("a", 0), ("a", 2), ("a", 3)]


def test_offer_from_before_the_grant_says_nothing_of_its_chunks(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.offer("a", 3, heard=0)
    assert [grant.number for grant in fleet.grants] == [1]
    fleet.granted()
    fleet.offer("a", 3, now=50.0, heard=0)  # the broker has not even taken the grant
    fleet.acknowledge(now=60.0)
    fleet.offer("a", 3, now=62.0, heard=0)
    assert fleet.granted() == []


def test_offer_from_after_the_grant_says_what_is_lost(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.offer("a", 3, heard=0)
    fleet.granted()
    fleet.send("a", 1)
    fleet.offer("a", 3, heard=1)
    assert [grant.number for grant in fleet.grants] == [2]
    assert fleet.granted() == [("a", 0), ("a", 2)]


def test_grant_that_is_never_heard_is_repeated(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.offer("a", 3, heard=0)
    fleet.acknowledge(now=1.0)
    fleet.granted()
    fleet.offer("a", 3, now=5.0, heard=0)  # two seconds, and two more for the one that the acknowledgement took
    assert fleet.granted() == []
    fleet.offer("a", 3, now=5.1, heard=0)
    assert fleet.granted() == [("a", 0), ("a", 1), ("a", 2)]


def test_nobody_is_silent_whose_chunks_may_be_behind_those_of_others(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, credit=8)
    fleet.offer("a", 8)
    fleet.granted()
    fleet.offer("b", 8)
    fleet.uploads.tick(100.0)
    assert fleet.granted() == []
    fleet.acknowledge(now=100.0)
    fleet.uploads.tick(305.0)  # the way from the broker was 100 seconds long
    assert fleet.granted() == []
    fleet.uploads.tick(306.0)
    assert fleet.granted() == [("b", i) for i in range(4)]


def test_takes_credit_back_from_a_silent_device(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for device in "abcd":
        fleet.offer(device, LIMITS.grant_chunks)
    fleet.offer("late", 2)
    assert ("late", 0) not in fleet.granted()
    fleet.acknowledge()
    fleet.uploads.tick(4.0)
    assert fleet.granted() == []
    fleet.uploads.tick(6.0)
    assert fleet.granted() == [("late", 0), ("late", 1)]


def test_starts_over_when_the_bytes_do_not_have_their_digest(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.offer("a", 2)
    fleet.granted()
    fleet.send("a", 0)
    good = fleet.blobs["a"]
    digest = digest_of(good)
    (wrong,) = split(b"x" * 20, digest, CHUNK, [(1, 2)])
    assert fleet.uploads.chunk("a", Chunk.parse(wrong), len(wrong), 0.0) is None
    assert fleet.granted() == [("a", 0), ("a", 1)]
    fleet.send("a", 0)
    assert fleet.send("a", 1) is not None


def test_ignores_chunks_that_nobody_offered(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.blobs["ghost"] = b"y" * 20
    assert fleet.send("ghost", 0) is None


def test_forgets_everything_when_the_round_is_over(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    fleet.offer("a", 30)
    fleet.granted()
    fleet.uploads.clear()
    assert list(tmp_path.iterdir()) == []
    fleet.offer("b", LIMITS.credit_chunks)
    assert len(fleet.granted()) == LIMITS.grant_chunks


def test_opens_no_file_for_an_update_that_waits_for_its_turn(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for number in range(300):
        fleet.offer(f"d{number:03d}", LIMITS.grant_chunks)
    begun = {device for device, _ in fleet.granted()}
    assert {path.name for path in tmp_path.iterdir()} == begun
    assert len(begun) <= LIMITS.credit_chunks // LIMITS.least_grant_chunks


def test_holds_no_more_files_than_its_limit_when_devices_stop_halfway(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    now, silent = 0.0, set()
    for number in range(300):
        fleet.offer(f"d{number:03d}", LIMITS.grant_chunks)
    for _ in range(60):
        silent |= {device for device, _ in fleet.granted()}
        fleet.acknowledge(now)
        now += 10
        fleet.uploads.tick(now)
    assert len(silent) == len(list(tmp_path.iterdir())) == LIMITS.open_uploads


def test_does_not_grant_chunk_by_chunk_when_many_wait(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for number in range(50):
        fleet.offer(f"d{number:02d}", 8)
    count, finished = 0, 0
    while fleet.grants:
        count += len(fleet.grants)
        for device, index in fleet.granted():
            finished += fleet.send(device, index) is not None
    assert finished == 50
    assert count <= 50 * 8 // LIMITS.least_grant_chunks


def test_finishes_within_the_credit_of_a_very_short_queue(tmp_path: Path) -> None:
    for credit in (1, 3, 25):
        fleet = Fleet(tmp_path / str(credit), credit)
        fleet.directory.mkdir()
        for device in "abc":
            fleet.offer(device, 9)
        under_way, finished = fleet.granted(), 0
        while under_way:
            assert len(under_way) <= credit
            finished += fleet.send(*under_way.pop(0)) is not None
            under_way += fleet.granted()
        assert finished == 3


def test_completes_uploads_one_after_the_other(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for number in range(8):
        fleet.offer(f"d{number}", 100)
    under_way, ends = fleet.granted(), []
    for count in range(800):
        device, index = under_way.pop(0)
        if fleet.send(device, index):
            ends.append(count)
        under_way += fleet.granted()
    assert len(ends) == 8
    assert ends[0] < 300
    assert all(after - before >= 5 for before, after in itertools.pairwise(ends)), ends


def test_lets_a_fast_device_overtake_one_that_came_first(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    for device in ("slow", "fast", "other"):
        fleet.offer(device, 100)
    under_way = [grant for grant in fleet.granted() if grant[0] == "fast"]
    whole = False
    while under_way and not whole:
        whole = fleet.send(*under_way.pop(0)) is not None
        under_way += [grant for grant in fleet.granted() if grant[0] == "fast"]
    assert whole


def test_slow_links_take_no_credit_and_nothing_is_taken_back_from_them(tmp_path: Path) -> None:
    class AllSlow(UnknownLinks):
        def rate(self, device: str) -> float | None:
            return 2.0 if device.startswith("slow") else None

    fleet = Fleet(tmp_path, credit=8, links=AllSlow())  # a chunk takes five seconds
    for number in range(10):
        fleet.offer(f"slow-{number}", 20)
    assert len(fleet.granted()) == 10 * LIMITS.least_grant_chunks

    fleet.offer("fast", 20)
    assert [device for device, _ in fleet.granted()] == ["fast"] * LIMITS.least_grant_chunks

    fleet.uploads.tick(100.0)
    fleet.granted()
    fleet.send("slow-0", 0, now=100.0)
    assert fleet.granted() == []  # three more are on their way
    fleet.send("slow-0", 1, now=105.0)
    assert fleet.granted() == [("slow-0", index) for index in (4, 5, 6, 7)]


def test_update_comes_in_chunks_of_the_size_that_its_offer_names(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path)
    blob = bytes(1500)
    named = msgspec.structs.replace(offer_of("a", blob), chunk_bytes=600)
    assert fleet.uploads.offer(named, tmp_path / "a", 0.0) is None
    assert fleet.granted() == [("a", 0), ("a", 1), ("a", 2)]
    messages = [Chunk.parse(data) for data in split(blob, named.digest, 600, most=250)]
    arrived = [fleet.uploads.chunk("a", message, len(message.payload), 0.0) for message in messages]

    assert len(messages) == 8
    assert arrived[:-1] == [None] * 7
    assert arrived[-1] is not None
    assert arrived[-1].path.read_bytes() == blob
