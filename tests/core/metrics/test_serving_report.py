"""What a device tells of the answers of its model."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.metrics.serving_report import MAX_REPORTED_LABELS, ServingReport


def test_a_device_tells_of_the_most_frequent_labels_alone() -> None:
    report = ServingReport(answers=1000, labels={f"label {number}" + "x" * 100: 1000 - number for number in range(50)})
    short = report.shortened
    assert len(short.labels) == MAX_REPORTED_LABELS
    assert next(iter(short.labels)) == "label 0" + "x" * 57
    assert short.answers == 1000


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"drift": 1.5}', type=ServingReport)
