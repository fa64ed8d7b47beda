import pytest

from fedlp_edge.core.rounds.settings import RoundSettings, check_error_feedback, check_periods
from fedlp_edge.core.settings import SchemeSettings, UpdateSettings

EVERY = {"L1": 3, "L2": 2}


def test_periods_need_rounds_in_common():
    check_periods(SchemeSettings(exchange_every=EVERY), RoundSettings())
    check_periods(SchemeSettings(), RoundSettings(mode="buffered"))
    with pytest.raises(ValueError, match="exchange_every needs rounds that all devices have in common"):
        check_periods(SchemeSettings(exchange_every=EVERY), RoundSettings(mode="buffered"))


def test_error_feedback_needs_rounds_in_common():
    check_error_feedback(UpdateSettings(error_feedback=True), RoundSettings())
    check_error_feedback(UpdateSettings(), RoundSettings(mode="buffered"))
    with pytest.raises(ValueError, match="error_feedback needs rounds that all devices have in common"):
        check_error_feedback(UpdateSettings(error_feedback=True), RoundSettings(mode="buffered"))
