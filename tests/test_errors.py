from __future__ import annotations

import inspect

import pytest

from fedlp_edge import errors
from fedlp_edge.errors import FedLPError, OperatorError, PeerError, RejectedUpdateError, SettingError


def test_one_except_catches_every_deliberate_error() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]

    assert len(kinds) > 5
    assert [kind.__name__ for kind in kinds if not issubclass(kind, FedLPError)] == []
    assert [kind.__name__ for kind in kinds if not kind.__name__.endswith("Error")] == []


def test_setting_error_says_which_key_is_wrong() -> None:
    with pytest.raises(OperatorError, match=r"^too many$") as raised:
        raise SettingError(("rounds", "count"), "too many")
    assert isinstance(raised.value, SettingError)
    assert raised.value.key == ("rounds", "count")


def test_rejected_update_has_a_code_beside_its_text() -> None:
    error = RejectedUpdateError("digest", "the update of pi-1 is damaged")

    assert isinstance(error, PeerError)
    assert (error.reason, str(error)) == ("digest", "the update of pi-1 is damaged")
