"""Every place where bytes of a stranger are read, as one table: for property tests, and for the long fuzzing run.

A *reader* takes any bytes and returns quietly, whatever they are: its decoder may only succeed or raise the error of
its module, and what succeeded must be what it claims to be. Everything else escapes and is a bug.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from fedlp_edge.core.settings import UPDATE_ENCODINGS, Encoding
from fedlp_edge.errors import PeerError, RejectedUpdateError
from fedlp_edge.wire.admission import Admission, admit_unit
from fedlp_edge.wire.chunks import Assembly, Chunk, MemorySink, split
from fedlp_edge.wire.compression import decompress, encode_unit
from fedlp_edge.wire.digests import digest_of
from fedlp_edge.wire.messages import (
    Announcement,
    Decoder,
    DeploymentReport,
    FromCoordinator,
    FromDevice,
    Grant,
    Progress,
    Ready,
    Receipt,
    RunEnded,
    Status,
    UnitRequest,
    UnitVersion,
    encode,
)
from fedlp_edge.wire.ranges import clip, expand, take
from fedlp_edge.wire.tensors import pack, unpack
from fedlp_edge.wire.topics import Topics
from tests.device_agent.support import FACTS, assignment, task
from tests.wire.fleet import BLUEPRINT, DEVICE, RUN, delta, expectation, update, version

MAX_BYTES = 1 << 16
"""Of what the readers of control messages take; the services' own limits are some megabytes."""

_DIGEST = digest_of(b"")
_ADMISSION = Admission(RUN, BLUEPRINT)
_L2 = BLUEPRINT.by_id["L2"]
_DELTAS = {"b.weight": delta("b.weight"), "b.var": delta("b.var")}
_BLOB = bytes(range(256)) * 4
_BLOB_DIGEST = digest_of(_BLOB)


@dataclass(frozen=True)
class Reader:
    """One decoder under test.

    Attributes:
        read: takes any bytes; what escapes it is a bug.
        examples: honest inputs, to start mutations from.
    """

    read: Callable[[bytes], None]
    examples: tuple[bytes, ...]


def _chunk(data: bytes) -> None:
    sink = MemorySink(len(_BLOB))
    assembly = Assembly(_BLOB_DIGEST, len(_BLOB), 100, sink)
    with contextlib.suppress(PeerError):
        chunk = Chunk.parse(data)
        assert chunk.index < chunk.count
        if assembly.add(chunk):
            assert len(chunk.payload) <= 100
    assert not assembly.complete


def _message(kind: object) -> Callable[[bytes], None]:
    read: Decoder = Decoder(kind, MAX_BYTES)

    def check(data: bytes) -> None:
        with contextlib.suppress(PeerError):
            message = read(data)
            assert read(encode(message)) == message  # type: ignore[arg-type]

    return check


def _safetensors(data: bytes) -> None:
    try:
        found = unpack(data)
    except PeerError:
        return
    assert sum(array.nbytes for array in found.values()) <= len(data)
    with contextlib.suppress(SafetensorError):  # the library limits other things than we do
        reference = load(data)
        assert reference.keys() == found.keys()
        assert all(np.array_equal(found[name], reference[name], equal_nan=True) for name in found)


def _update(encoding: Encoding) -> Callable[[bytes], None]:
    expected = dataclasses.replace(expectation(L2=("b.weight", "b.var")), encoding=encoding)

    def check(data: bytes) -> None:
        offer, blob = update({"L2": data})
        try:
            admitted = _ADMISSION.admit(offer, blob, expected)
        except RejectedUpdateError:
            return
        assert admitted.deltas.keys() == {"b.weight", "b.var"}
        for name, array in admitted.deltas.items():
            assert array.dtype == np.float32
            assert array.shape == _DELTAS[name].shape
            assert np.isfinite(array).all()

    return check


def _unit(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        weights = admit_unit(_L2, version("L2", data), data)
        assert all(np.isfinite(weights.read(tensor)).all() for tensor in _L2.tensors)


def _frame(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        assert len(decompress(data, 4096)) <= 4096


def _offer(data: bytes) -> None:
    """Whatever an offer says: it is refused, or it is of a possible size."""
    with contextlib.suppress(PeerError):
        message = Decoder[FromDevice](FromDevice, MAX_BYTES)(data)
        if type(message).__name__ == "Offer":
            _ADMISSION.check_offer(message, DEVICE, expectation())  # type: ignore[arg-type]
            assert message.size < 10_000  # type: ignore[attr-defined]


def _ranges(data: bytes) -> None:
    numbers = [int.from_bytes(data[i : i + 7], "little") for i in range(0, len(data) - 13, 7)]
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    listed = list(expand(pairs, 1000))
    assert listed == sorted(set(listed))
    taken, rest = take(clip(pairs, 1000), 10)
    assert [*expand(taken, 1000), *expand(rest, 1000)] == listed


def _topic(data: bytes) -> None:
    branch, leaf = Topics("shop").parse(data.decode("utf-8", errors="replace"))
    assert isinstance(branch, str)
    assert isinstance(leaf, str)


def _control() -> dict[str, Reader]:
    unit = UnitVersion("L1", _DIGEST, 10, 5)
    own = {"run": "run", "device": "pi"}
    from_device = (
        update()[0],
        Ready(**own, session="s", depth=1),
        UnitRequest(**own, unit="L1", digest=_DIGEST, missing=((0, 2), (5, 9))),
        Progress(**own, unit="L1", blob=_DIGEST[:32], index=3),
        DeploymentReport(**own, state="failed", reason="no room"),
    )
    from_coordinator = (
        assignment(),
        task(),
        Grant(**own, round=1, digest=_DIGEST, missing=((0, 3),), window=4),
        Receipt(**own, round=1, digest=_DIGEST, state="rejected", reason="too large"),
        RunEnded(**own, rounds=2, models=(unit,)),
    )
    status = Status(device="pi", online=True, session="s", facts=FACTS)
    word = Announcement(online=True, run="run", session="s", state="running")
    kinds: Mapping[str, tuple[object, tuple[object, ...]]] = {
        "from-device": (FromDevice, from_device),
        "from-coordinator": (FromCoordinator, from_coordinator),
        "status": (Status, (status,)),
        "announcement": (Announcement, (word,)),
    }
    return {
        name: Reader(_message(kind), tuple(encode(example) for example in examples))  # type: ignore[arg-type]
        for name, (kind, examples) in kinds.items()
    }


_ENCODED = {
    encoding: encode_unit(_L2.tensors, _DELTAS, encoding, seed=3) for encoding in (*UPDATE_ENCODINGS, "levels:5+zstd")
}

READERS: dict[str, Reader] = {
    "chunk": Reader(_chunk, tuple(split(_BLOB, _BLOB_DIGEST, 100))[:3]),
    **_control(),
    "offer": Reader(_offer, (encode(update()[0]),)),
    "safetensors": Reader(_safetensors, (pack(_DELTAS), pack({}), _ENCODED["none"])),
    "unit": Reader(_unit, (pack(_DELTAS),)),
    "frame": Reader(_frame, tuple(part for name, part in _ENCODED.items() if "zstd" in name)),
    **{f"update-{encoding}": Reader(_update(encoding), (part,)) for encoding, part in _ENCODED.items()},
    "ranges": Reader(_ranges, (bytes(42), bytes(range(70)))),
    "topic": Reader(_topic, (b"fedlp/shop/up/pi", b"fedlp/shop/model/L1")),
}
