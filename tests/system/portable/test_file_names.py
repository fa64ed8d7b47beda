from __future__ import annotations

import sys

import pytest

from fedlp_edge.system.portable.file_names import name_for_file


def test_names_that_differ_in_capitals_are_two_files_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name_for_file(name) for name in ("cam", "Cam")] == ["cam", "Cam"]
    monkeypatch.setattr(sys, "platform", "darwin")
    assert [name_for_file(name) for name in ("cam", "Cam", "CAM")] == ["cam", "Cam~441830f8", "CAM~9b7b5ee4"]
