from __future__ import annotations

import getpass

import pytest

from fedlp_edge.system.portable.user_name import name_this_user


def test_a_user_without_an_account_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    # As in a container that is started with --user 12345, where torch.compile of PyTorch 2.9 raises KeyError.
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("os.getuid", lambda: 2**31 - 7)
    name_this_user()
    assert getpass.getuser() == "user-2147483641"
    monkeypatch.setenv("LOGNAME", "")
    monkeypatch.setenv("USER", "pi")
    name_this_user()
    assert getpass.getuser() == "pi"
