"""Which processor trains: CUDA where there is one, the CPU otherwise, or what the owner says."""

from __future__ import annotations

import torch

from fedlp_edge.errors import WorkerError


def choose(wanted: str) -> torch.device:
    """``auto``, ``cpu`` or ``cuda``.

    Raises:
        WorkerError: CUDA is asked for and not there.
    """
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise WorkerError("this machine has no CUDA device that PyTorch can use: leave --device out, or say cpu")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def make_repeatable(device: torch.device) -> None:
    """Chooses cuDNN algorithms that give the same bits each time.

    Only what is cheap: on CUDA a few backward kernels still add in a varying order, on a CPU nothing does
    as long as the number of threads stays the same.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
