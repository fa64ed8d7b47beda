from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fedlp_edge.system.portable.stop_signals import STOP_SIGNALS, ask_to_end, is_ignored, without_stop_signals


def test_those_that_this_system_has_stop_a_process() -> None:
    assert STOP_SIGNALS == (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_child_that_is_started_unheard_does_not_hear_that_all_are_to_end(number: int) -> None:
    program = f"import os; os.kill(os.getpid(), {int(number)}); print('went on')"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with without_stop_signals() as options:
        child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, **options)
    assert (child.returncode, child.stdout) == (0, "went on\n")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize(("handler", "ignored"), [(signal.SIG_IGN, True), (signal.SIG_DFL, False)])
def test_hang_up_is_ignored_under_nohup_alone(handler: signal.Handlers, ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, handler)
    try:
        assert is_ignored(signal.SIGHUP) is ignored
    finally:
        signal.signal(signal.SIGHUP, before)


def test_child_is_asked_to_end() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        ask_to_end(child)
        assert child.wait(10) == -signal.SIGTERM
