"""Updates and units that must not get in, each refused for its own reason."""

from __future__ import annotations

import json
import math
import tracemalloc

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from fedlp_edge.errors import PeerError, RejectedUpdateError
from fedlp_edge.wire.admission import Admission, RejectionReason, admit_unit, max_unit_bytes
from fedlp_edge.wire.messages import Offer, UnitPayload
from fedlp_edge.wire.tensors import pack
from tests.wire.fleet import BLUEPRINT, DEVICE, RUN, delta, expectation, update, version

ADMISSION = Admission(RUN, BLUEPRINT)
ONLY_H2 = expectation(H2=("h2.weight",))


def refusal_of_offer(offer: Offer, topic_device: str = DEVICE) -> str:
    with pytest.raises(RejectedUpdateError) as refused:
        ADMISSION.check_offer(offer, topic_device, expectation())
    return refused.value.reason


def refusal_of_part(part: bytes) -> str:
    """Of an update that holds only H2, with these bytes, its offer telling the truth about them."""
    offer, blob = update({"H2": part})
    with pytest.raises(RejectedUpdateError) as refused:
        ADMISSION.admit(offer, blob, ONLY_H2)
    return refused.value.reason


def safetensors(header: object, body: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return len(encoded).to_bytes(8, "little") + encoded + body


def entry(start: int = 0, stop: int = 24, shape: object = (2, 3), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": "pi-2"}, RejectionReason.IDENTITY),
        ({"run": "run-0"}, RejectionReason.RUN),
        ({"round": 2}, RejectionReason.ROUND),
        ({"round": 4}, RejectionReason.ROUND),
        ({"samples": 0}, RejectionReason.SAMPLES),
        ({"samples": 101}, RejectionReason.SAMPLES),
        ({"samples": 2**53}, RejectionReason.SAMPLES),
        ({"loss": math.nan}, RejectionReason.FIGURES),
        ({"seconds": math.inf}, RejectionReason.FIGURES),
        ({"seconds": -1.0}, RejectionReason.FIGURES),
        ({"units": ()}, RejectionReason.UNITS),
        ({"size": 0}, RejectionReason.SIZE),
        ({"size": 2**53}, RejectionReason.SIZE),
    ],
)
def test_offer_is_refused(changes: dict[str, object], reason: RejectionReason) -> None:
    offer, _ = update(**changes)

    assert refusal_of_offer(offer) == reason


def test_offer_on_the_topic_of_another_device_is_refused() -> None:
    offer, _ = update()

    assert refusal_of_offer(offer, topic_device="pi-2") == RejectionReason.IDENTITY


@pytest.mark.parametrize(
    ("rearrange", "reason"),
    [
        (lambda first, second: (second, first), RejectionReason.UNITS),  # not the order of the blueprint
        (lambda first, second: (first,), RejectionReason.UNITS),  # a unit left out
        (lambda first, second: (first, first, second), RejectionReason.UNITS),  # a unit twice
        (
            lambda first, second: (first, UnitPayload("L2", first.size, second.size)),
            RejectionReason.UNITS,
        ),  # a pruned unit
        (lambda first, second: (first, UnitPayload("onnx-1", first.size, second.size)), RejectionReason.UNITS),
        (lambda first, second: (first, UnitPayload("H2", first.size + 4, second.size)), RejectionReason.UNITS),  # a gap
        (
            lambda first, second: (first, UnitPayload("H2", first.size - 4, second.size)),
            RejectionReason.UNITS,
        ),  # an overlap
        (lambda first, second: (UnitPayload("L1", 4, first.size), second), RejectionReason.UNITS),
        (lambda first, second: (first, UnitPayload("H2", first.size, 2**53)), RejectionReason.SIZE),
        (lambda first, second: (first, UnitPayload("H2", first.size, 0)), RejectionReason.SIZE),
        (lambda first, second: (first, UnitPayload("H2", first.size, second.size + 4)), RejectionReason.SIZE),
    ],
)
def test_offer_whose_parts_do_not_fit_is_refused(rearrange: object, reason: RejectionReason) -> None:
    offer, _ = update()
    changed = msgspec.structs.replace(offer, units=rearrange(*offer.units))  # type: ignore[operator]

    assert refusal_of_offer(changed) == reason


def test_offer_with_a_huge_declared_size_is_refused_before_anything_is_allocated() -> None:
    first, second = update()[0].units
    parts = (first, UnitPayload("H2", first.size, 2**40))
    offer = msgspec.structs.replace(update()[0], units=parts, size=first.size + 2**40)
    tracemalloc.start()
    try:
        assert refusal_of_offer(offer) == RejectionReason.SIZE
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert second.size < 2**40


def test_blob_of_another_length_or_digest_is_refused() -> None:
    offer, blob = update()
    with pytest.raises(RejectedUpdateError) as cut:
        ADMISSION.admit(offer, blob[:-1], expectation())
    with pytest.raises(RejectedUpdateError) as changed:
        ADMISSION.admit(offer, blob[:-1] + b"\x01", expectation())

    assert (cut.value.reason, changed.value.reason) == (RejectionReason.SIZE, RejectionReason.DIGEST)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 2)])
def test_value_that_is_not_finite_is_refused(value: float, place: tuple[int, int]) -> None:
    poisoned = delta("h2.weight")
    poisoned[place] = value

    assert refusal_of_part(pack({"h2.weight": poisoned})) == RejectionReason.NOT_FINITE


def test_not_a_number_cannot_hide_behind_infinity_or_large_values() -> None:
    poisoned = np.array([[math.inf, math.nan, -math.inf], [1e38, -1e38, 0]], dtype=np.float32)

    assert refusal_of_part(pack({"h2.weight": poisoned})) == RejectionReason.NOT_FINITE


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (pack({"h1.weight": np.zeros((2, 3), np.float32)}), RejectionReason.NAMES),
        (pack({}) + bytes(24), RejectionReason.MALFORMED),  # bytes that no header describes
        (pack({"h2.weight": delta("h2.weight")[:1], "h2.more": delta("h2.weight")[1:]}), RejectionReason.NAMES),
        (pack({"h2.weight": delta("h2.weight").T}), RejectionReason.SHAPE),
        (pack({"h2.weight": delta("h2.weight").reshape(6)}), RejectionReason.SHAPE),
        (save({"h2.weight": np.zeros((2, 3), np.int32)}), RejectionReason.DTYPE),
        (save({"h2.weight": np.zeros((2, 3), np.float16)}) + bytes(12), RejectionReason.MALFORMED),
        (save({"h2.weight": np.zeros((1, 3), np.float64)}), RejectionReason.DTYPE),
        (safetensors({"h2.weight": entry(shape=[2, 2])}, bytes(24)), RejectionReason.SHAPE),
        (safetensors({"h2.weight": entry(stop=20)}, bytes(20)) + bytes(4), RejectionReason.MALFORMED),
        (safetensors({"h2.weight": entry(stop=28)}, bytes(24)), RejectionReason.MALFORMED),
        (safetensors({"h2.weight": entry(start=4, stop=28)}, bytes(28)), RejectionReason.MALFORMED),  # a gap
        (safetensors({"h2.weight": entry(start=24, stop=0)}, bytes(24)), RejectionReason.MALFORMED),
        (safetensors({"h2.weight": entry(), "x": entry()}, bytes(24)), RejectionReason.MALFORMED),  # an overlap
        (safetensors({"h2.weight": entry(), "x": entry(24, 24, (0,))}, bytes(24)), RejectionReason.NAMES),
        (safetensors({"h2.weight": entry(shape=[-2, -3])}, bytes(24)), RejectionReason.MALFORMED),
        (safetensors({"h2.weight": entry(shape=[2.0, 3.0])}, bytes(24)), RejectionReason.MALFORMED),
        (safetensors({"h2.weight": entry(shape="23")}, bytes(24)), RejectionReason.MALFORMED),
        (safetensors({"h2.weight": entry() | {"code": "x"}}, bytes(24)), RejectionReason.MALFORMED),
        (safetensors(["h2.weight"], bytes(24)), RejectionReason.MALFORMED),
        (safetensors(None, bytes(24)), RejectionReason.MALFORMED),
        (b"\xff" * 8 + bytes(60), RejectionReason.MALFORMED),  # a header of 2**64 - 1 bytes
        ((2**40).to_bytes(8, "little") + bytes(60), RejectionReason.MALFORMED),
        (bytes(40), RejectionReason.MALFORMED),
        (b"\x80\x04\x95" + bytes(60), RejectionReason.MALFORMED),  # a pickle
        ((20).to_bytes(8, "little") + b"\xff\xfe" * 10 + bytes(24), RejectionReason.MALFORMED),  # not UTF-8
    ],
)
def test_part_that_is_not_what_is_owed_is_refused(part: bytes, reason: RejectionReason) -> None:
    assert refusal_of_part(part) == reason


def test_part_with_a_header_longer_than_its_tensors_need_is_refused_from_the_offer_alone() -> None:
    bomb = safetensors({"h2.weight": entry(), "__metadata__": {"x": "y" * 10_000}}, bytes(24))
    offer, _ = update({"H2": bomb})
    with pytest.raises(RejectedUpdateError) as refused:
        ADMISSION.check_offer(offer, DEVICE, ONLY_H2)

    assert refused.value.reason == RejectionReason.SIZE


def test_part_with_a_header_that_claims_its_tensors_bytes_is_refused() -> None:
    """Within the size limit, but with nearly all of it header."""
    whole = pack({"h2.weight": delta("h2.weight")})
    stretched = (len(whole) - 8).to_bytes(8, "little") + whole[8:]

    assert refusal_of_part(stretched) == RejectionReason.MALFORMED


def test_part_of_deep_json_is_refused() -> None:
    deep = b'{"h2.weight":' + b"[" * 120 + b"]" * 120 + b"}"

    assert refusal_of_part(len(deep).to_bytes(8, "little") + deep + bytes(24)) == RejectionReason.MALFORMED


def test_update_cut_at_any_byte_is_refused() -> None:
    _, blob = update({"H2": pack({"h2.weight": delta("h2.weight")})})
    for length in range(len(blob)):
        offer, cut = update({"H2": blob[:length]})
        with pytest.raises(RejectedUpdateError):
            ADMISSION.admit(offer, cut, ONLY_H2)


def test_refusals_name_few_of_many_invented_tensors() -> None:
    unit = BLUEPRINT.by_id["L2"]
    blob = safetensors({f"{i}": entry(0, 0, (0,)) for i in range(8)}, b"")
    with pytest.raises(PeerError) as refused:
        admit_unit(unit, version("L2", blob), blob)

    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("blob", "words"),
    [
        (pack({"a.weight": delta("a.weight")}), "^L1: the weights lack a.bias$"),
        (pack({"a.weight": delta("a.weight"), "a.bias": np.full(2, np.nan, np.float32)}), "not finite"),
        (
            pack({"a.weight": delta("a.weight"), "a.bias": delta("a.weight")}),
            r"^L1: a.bias came as F32 \[2, 2\], which is not \[2\]",
        ),
        (b"", "cut short"),
    ],
)
def test_unit_from_the_coordinator_is_refused(blob: bytes, words: str) -> None:
    with pytest.raises(PeerError, match=words):
        admit_unit(BLUEPRINT.by_id["L1"], version("L1", blob), blob)


def test_unit_over_its_size_or_with_another_digest_or_name_is_refused() -> None:
    unit = BLUEPRINT.by_id["L1"]
    blob = pack({"a.weight": delta("a.weight"), "a.bias": delta("a.bias")})
    large = blob + bytes(max_unit_bytes(unit))
    with pytest.raises(PeerError, match="over its limit"):
        admit_unit(unit, version("L1", large), large)
    with pytest.raises(PeerError, match="digest"):
        admit_unit(unit, version("L1", blob), blob[:-1] + b"\x01")
    with pytest.raises(PeerError, match="version of L2"):
        admit_unit(unit, version("L2", blob), blob)
