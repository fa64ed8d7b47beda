"""The first train steps of a process, before anything is measured."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch

from fedlp_edge.learning.profiling.warmup import warm_up


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    warm_up(torch.device("cpu"))
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
