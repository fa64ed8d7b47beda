"""What admission lets through; what it refuses is in tests/hostile."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save

from fedlp_edge.core.algorithm.aggregation import MAX_ABS_DELTA
from fedlp_edge.core.device_scores import HeldOutScores
from fedlp_edge.errors import RejectedUpdateError
from fedlp_edge.wire.admission import Admission, AdmissionLimits, admit_part, admit_scores, admit_unit, max_unit_bytes
from fedlp_edge.wire.packed_scores import PackedArray, PackedScores, packed_scores
from fedlp_edge.wire.tensors import pack

from .fleet import BLUEPRINT, DEVICE, RUN, delta, expectation, update, version

ADMISSION = Admission(RUN, BLUEPRINT)


def test_admit_returns_the_deltas_as_read_only_views_of_the_blob() -> None:
    offer, blob = update()
    ADMISSION.check_offer(offer, DEVICE, expectation())
    admitted = ADMISSION.admit(offer, blob, expectation())

    assert (admitted.device, admitted.round, admitted.weight_samples) == (DEVICE, 3, 100)
    assert {name: array.tolist() for name, array in admitted.deltas.items()} == {
        "a.weight": [[0.5, 0.5], [0.5, 0.5]],
        "a.bias": [-1.0, -1.0],
        "h2.weight": [[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]],
    }
    memory = np.frombuffer(blob, dtype=np.uint8)
    assert all(np.shares_memory(array, memory) for array in admitted.deltas.values())
    assert not any(array.flags.writeable for array in admitted.deltas.values())


def test_admit_takes_an_update_of_which_everything_was_pruned() -> None:
    offer, blob = update({})
    expected = expectation(L1=())

    assert ADMISSION.admit(offer, blob, expected).deltas == {}


def test_admit_takes_single_tensors_of_a_unit_when_tensors_are_drawn() -> None:
    offer, blob = update({"L2": pack({"b.var": delta("b.var")})})

    assert list(ADMISSION.admit(offer, blob, expectation(L2=("b.var",))).deltas) == ["b.var"]


def test_admit_takes_fewer_samples_than_reported() -> None:
    offer, blob = update(samples=1)

    assert ADMISSION.admit(offer, blob, expectation()).weight_samples == 1


@pytest.mark.parametrize("value", [MAX_ABS_DELTA, -MAX_ABS_DELTA])
def test_admit_takes_values_up_to_the_limit_and_no_further(value: float) -> None:
    expected = expectation(H2=("h2.weight",))
    offer, blob = update({"H2": pack({"h2.weight": delta("h2.weight", value)})})
    assert ADMISSION.admit(offer, blob, expected).deltas["h2.weight"][0, 0] == value

    beyond = delta("h2.weight")
    beyond[1, 2] = np.nextafter(np.float32(value), np.float32(2 * value))
    offer, blob = update({"H2": pack({"h2.weight": beyond})})
    with pytest.raises(RejectedUpdateError) as refused:
        ADMISSION.admit(offer, blob, expected)
    assert refused.value.reason == "value"


def test_admit_applies_the_norm_limit_to_the_whole_update() -> None:
    expected = expectation(L1=("a.bias",), H1=("h1.weight",), H2=("h2.weight",))
    parts = {
        "L1": pack({"a.bias": np.array([3.0, 0.0], dtype=np.float32)}),
        "H2": pack({"h2.weight": np.array([[4.0, 0, 0], [0, 0, 0]], dtype=np.float32)}),
    }
    offer, blob = update(parts)
    Admission(RUN, BLUEPRINT, AdmissionLimits(max_norm=5.0)).admit(offer, blob, expected)
    with pytest.raises(RejectedUpdateError) as refused:
        Admission(RUN, BLUEPRINT, AdmissionLimits(max_norm=4.999)).admit(offer, blob, expected)

    assert refused.value.reason == "norm"


def test_limits_never_exceed_what_the_exact_sum_can_hold() -> None:
    with pytest.raises(ValueError, match="max_value"):
        AdmissionLimits(max_value=2 * MAX_ABS_DELTA)


def test_admit_unit_returns_the_weights_of_the_unit() -> None:
    unit = BLUEPRINT.by_id["L1"]
    blob = pack({"a.bias": delta("a.bias", 1e30), "a.weight": delta("a.weight")})

    assert len(blob) <= max_unit_bytes(unit)
    (bias,) = (tensor for tensor in unit.tensors if tensor.name == "a.bias")
    assert admit_unit(unit, version("L1", blob), blob).read(bias).tolist() == [np.float32(1e30)] * 2


def test_admit_takes_a_statistic_of_any_size_and_none_out_of_its_domain() -> None:
    expected = expectation(L2=("b.var",))

    def admit(value: float) -> float:
        offer, blob = update({"L2": pack({"b.var": np.array(value, dtype=np.float32)})})
        return float(ADMISSION.admit(offer, blob, expected).deltas["b.var"])

    assert [admit(value) for value in (0.0, 2.0**40)] == [0.0, 2.0**40]
    for value, reason in ((-1e-6, "value"), (-(2.0**20), "value"), (np.inf, "not-finite"), (np.nan, "not-finite")):
        with pytest.raises(RejectedUpdateError) as refused:
            admit(value)
        assert refused.value.reason == reason


def scores(samples: float = 10.0, right: float = 5.0, depth: int = 2) -> dict[int, PackedScores]:
    """Of two classes, all samples of the first one."""
    sums = {"samples": (samples,), "loss": (samples,), "support": (samples, 0.0), "predicted": (samples, 0.0)}
    return packed_scores({depth: HeldOutScores(sums | {"correct": (right, 0.0)})})


def test_admits_what_a_device_has_measured_on_its_held_out_samples() -> None:
    offer, _ = update(scores=scores())
    ADMISSION.check_offer(offer, DEVICE, expectation())
    assert admit_scores(offer.scores, "classification", {2}, 100)[2].samples == 10


@pytest.mark.parametrize(
    ("impossible", "words"),
    [
        (scores(samples=101.0), "does not say on how many of its 100 samples"),
        (scores(right=11.0), "more held-out samples were counted"),
        (scores(right=-1.0), "below 0"),
        (scores(depth=1), "depth 1, which it does not hold"),
        ({2: PackedScores({"samples": PackedArray(1, (7,), (1.0,))})}, "at place 7 of 1"),
    ],
)
def test_refuses_an_offer_with_scores_that_cannot_be(impossible: dict[int, PackedScores], words: str) -> None:
    offer, _ = update(scores=impossible)
    with pytest.raises(RejectedUpdateError, match=words) as refused:
        ADMISSION.check_offer(offer, DEVICE, expectation())
    assert refused.value.reason == "scores"


@pytest.mark.parametrize(
    ("levels", "scale", "reason"),
    [
        ([-2, 1], 2.0**19, None),
        ([-2, 1], 2.0**19 + 1, "value"),
        ([-2, 1], -(2.0**19), None),
        ([0, 0], np.nan, "not-finite"),
        ([0, 1], np.inf, "not-finite"),
    ],
)
def test_integers_are_judged_by_the_values_that_they_lead_to(
    levels: list[int], scale: float, reason: str | None
) -> None:
    unit, bias = BLUEPRINT.by_id["L1"], BLUEPRINT.by_id["L1"].tensors[-1:]
    blob = save({bias[0].name: np.array(levels, np.int8), "scales": np.array([scale], np.float32)})
    if reason is None:
        admitted = admit_part(unit, bias, blob, "int8")
        assert admitted[bias[0].name].tolist() == [level * scale for level in levels]
        return
    with pytest.raises(RejectedUpdateError) as refused:
        admit_part(unit, bias, blob, "int8")
    assert refused.value.reason == reason
