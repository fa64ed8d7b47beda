"""Values of options; what is refused is tried on whole specifications in ``test_parsing.py``."""

from __future__ import annotations

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec import option_values


def test_values_are_read() -> None:
    assert option_values.whole({"seed": "7"}, "seed", default=1, least=0) == 7
    assert option_values.whole({}, "seed", default=1, least=0) == 1
    assert option_values.fraction(".25") == 0.25
    assert option_values.names({"target": "a%2Cb, u\u0308"}, "target") == ("a,b", "\u00fc")
    assert option_values.yes_or_no({"header": "no"}, "header") is False
    assert option_values.encoding("UTF8") == "utf-8"
    assert option_values.share("3/8") == (3, 8)
    assert (option_values.size("64"), option_values.size("64x48")) == ((64, 64), (64, 48))
    assert option_values.channels("3") == 3
    assert option_values.shape({"shape": "1x28x28"}, "csv:a") == (1, 28, 28)
    assert [option_values.is_number(text) for text in ("-9999", "ERR")] == [True, False]


@pytest.mark.parametrize("value", ["-1", "1.5", "", "1" * 16])
def test_whole_numbers_have_digits_alone(value: str) -> None:
    with pytest.raises(DataError, match="write a whole number, 0 or more"):
        option_values.whole({"seed": value}, "seed", default=0, least=0)
