"""Models whose fast ways do not work: in bfloat16 they fail as libraries do."""

from __future__ import annotations

import os
import signal

import torch
from torch import Tensor, nn

WHOLE_BATCH = 16


class Fails(nn.Module):
    """Fails in bfloat16 on every batch that is smaller than a whole one."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu") and len(x) < WHOLE_BATCH:
            raise RuntimeError("could not create a primitive")
        return x


class Crashes(nn.Module):
    """Takes the whole process with it in bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return x


class CrashesAlways(nn.Module):
    """Takes the whole process with it in every training."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.training and len(x) == WHOLE_BATCH:
            os.kill(os.getpid(), signal.SIGSEGV)
        return x


def _net(middle: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(middle, nn.Conv2d(4, 8, 2), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(32, 10)),
    )


def fails() -> nn.Module:
    """Fails on the last batch."""
    return _net(Fails())


def crashes() -> nn.Module:
    """Ends the worker process."""
    return _net(Crashes())


def crashes_always() -> nn.Module:
    """Ends the worker process whatever the way of computing."""
    return _net(CrashesAlways())
