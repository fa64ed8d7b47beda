from __future__ import annotations

import resource
import sys

import pytest

from fedlp_edge.system.portable.memory_use import anonymous_bytes, limited_data, limits_data, resident_bytes

MIB = 1 << 20


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_resident_bytes_follows_allocations(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    before, anonymous = resident_bytes(), anonymous_bytes()
    block = bytearray(b"\1") * (64 * MIB)
    assert 60 * MIB < resident_bytes() - before < 90 * MIB
    assert 60 * MIB < anonymous_bytes() - anonymous < 90 * MIB
    assert block[0] == 1


def test_data_is_limited_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_data(64 * MIB):
        assert limits_data()
        assert resource.getrlimit(resource.RLIMIT_DATA) < before or before[0] == resource.RLIM_INFINITY
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    monkeypatch.setattr(sys, "platform", "darwin")
    with limited_data(0):
        assert not limits_data()
        assert resource.getrlimit(resource.RLIMIT_DATA) == before
