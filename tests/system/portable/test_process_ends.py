from __future__ import annotations

import pytest

from fedlp_edge.system.portable.process_ends import crashed, how_it_ended, killed_for_memory, signal_of


@pytest.mark.parametrize(
    ("code", "name", "words", "crash", "memory"),
    [
        (0, "", "ended with exit code 0", False, False),
        (3, "", "ended with exit code 3", False, False),
        (-9, "SIGKILL", "was ended by SIGKILL", False, True),
        (-11, "SIGSEGV", "was ended by SIGSEGV", True, False),
        (-40, "signal 40", "was ended by signal 40", False, False),
        (0xC0000005, "SIGSEGV", "was ended by SIGSEGV", True, False),
        (0xC000001D, "SIGILL", "was ended by SIGILL", True, False),
        (0xC0000017, "", "ended with exit code 3221225495", False, True),
    ],
)
def test_end_is_told_by_its_code(code: int, name: str, words: str, crash: bool, memory: bool) -> None:
    assert (signal_of(code), how_it_ended(code)) == (name, words)
    assert (crashed(code), killed_for_memory(code)) == (crash, memory)
