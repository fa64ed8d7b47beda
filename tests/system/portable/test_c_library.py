from __future__ import annotations

from fedlp_edge.system.portable.c_library import c_function


def test_function_is_found_by_its_name() -> None:
    absolute = c_function("abs")
    assert absolute is not None
    assert absolute(-7) == 7
    assert c_function("of_no_c_library") is None
