"""What rounding takes from an update is in a later one."""

from __future__ import annotations

import numpy as np
import pytest

from fedlp_edge.core.blueprint import TensorSpec, Unit
from fedlp_edge.core.settings import Encoding
from fedlp_edge.wire.admission import admit_part
from fedlp_edge.wire.error_feedback import ErrorFeedback
from fedlp_edge.wire.tensors import Array

SPECS = (TensorSpec("L1.w", (4,)), TensorSpec("L1.mean", (1,), "statistic"))
UNIT = Unit("L1", "l1", "layer", 1, SPECS)
DELTAS = {"L1.w": np.array([1.0, 0.4, -0.2, 0.0], np.float32), "L1.mean": np.array([3.5], np.float32)}


def sent(
    feedback: ErrorFeedback, encoding: Encoding = "int2+zstd", deltas: dict[str, Array] = DELTAS
) -> dict[str, Array]:
    return admit_part(UNIT, SPECS, feedback.encode("L1", SPECS, deltas, encoding), encoding)


def test_small_changes_are_sent_once_they_have_added_up() -> None:
    first = ErrorFeedback({})
    assert sent(first)["L1.w"].tolist() == [1.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(first.residuals["L1.w"], [0.0, 0.4, -0.2, 0.0])
    second = ErrorFeedback(first.residuals)
    assert sent(second)["L1.w"].tolist() == [1.0, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(second.residuals["L1.w"], [0.0, -0.2, -0.4, 0.0], atol=1e-6)


def test_statistics_travel_exactly_and_leave_nothing() -> None:
    feedback = ErrorFeedback({})
    assert sent(feedback)["L1.mean"].tolist() == [3.5]
    assert feedback.residuals.keys() == {"L1.w"}


@pytest.mark.parametrize("encoding", ["fp16", "int8", "int4+zstd", "int2+zstd"])
def test_sum_of_what_is_sent_and_kept_is_the_sum_of_all_deltas(encoding: Encoding) -> None:
    generator = np.random.default_rng(1)
    total, arrived, residuals = np.zeros(4), np.zeros(4), {}
    for _ in range(50):
        deltas = {**DELTAS, "L1.w": generator.standard_normal(4).astype(np.float32)}
        feedback = ErrorFeedback(residuals)
        arrived += sent(feedback, encoding, deltas)["L1.w"]
        total += deltas["L1.w"]
        residuals = feedback.residuals
    np.testing.assert_allclose(arrived + residuals["L1.w"], total, atol=1e-4)
    assert np.abs(residuals["L1.w"]).max() < 3


def test_encoding_again_starts_from_the_same_residuals() -> None:
    feedback = ErrorFeedback({"L1.w": np.full(4, 0.3, np.float32)})
    once = feedback.encode("L1", SPECS, DELTAS, "int4+zstd")
    left = dict(feedback.residuals)
    assert feedback.encode("L1", SPECS, DELTAS, "int4+zstd") == once
    np.testing.assert_array_equal(feedback.residuals["L1.w"], left["L1.w"])


def test_residual_of_another_shape_is_dropped_and_one_of_an_unsent_tensor_stays() -> None:
    start = {"L1.w": np.ones(3, np.float32), "L2.w": np.ones(2, np.float32)}
    feedback = ErrorFeedback(start)
    assert sent(feedback)["L1.w"].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert feedback.residuals["L1.w"].shape == (4,)
    np.testing.assert_array_equal(feedback.residuals["L2.w"], start["L2.w"])
