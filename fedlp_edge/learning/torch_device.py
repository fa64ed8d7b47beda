"""Which processor trains: CUDA where there is one, the CPU otherwise, or what the owner says."""

from __future__ import annotations

import re

import torch
from torch import nn

from fedlp_edge.errors import WorkerError

_CUDA = re.compile(r"CUDA|cuDNN|CUBLAS|CUSPARSE|NVRTC|NVIDIA|device-side assert|no kernel image", re.IGNORECASE)


def choose(wanted: str) -> tuple[torch.device, str]:
    """``auto``, ``cpu`` or ``cuda``.

    Returns:
        The processor, and why it is the CPU although there is a GPU; empty if there is nothing to say.

    Raises:
        WorkerError: CUDA is asked for and not there, or does not work.
    """
    if wanted == "cpu":
        return torch.device("cpu"), ""
    if not torch.cuda.is_available():
        if wanted == "cuda":
            raise WorkerError("this machine has no CUDA device that PyTorch can use: leave --device out, or say cpu")
        return torch.device("cpu"), ""
    problem = cuda_problem()
    if not problem:
        return torch.device("cuda"), ""
    if wanted == "cuda":
        raise WorkerError(does_not_work(problem))
    return torch.device("cpu"), f"PyTorch lists a CUDA device, but it does not work ({problem}): training on the CPU"


def cuda_problem() -> str:
    """What goes wrong when the CUDA device that PyTorch lists does what training needs; empty if nothing does."""
    try:
        device = torch.device("cuda")
        x = torch.ones(2, 1, 4, 4, device=device)
        layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)).to(device)
        layers(x).sum().backward()
        torch.cuda.synchronize(device)
    except Exception as error:  # whatever the driver says
        return one_line(error)
    return ""


def is_cuda_failure(error: BaseException) -> bool:
    """Whether the CUDA device, its driver or its libraries failed, rather than what they were asked to do."""
    return type(error).__name__ == "AcceleratorError" or _CUDA.search(str(error)) is not None


def does_not_work(problem: str) -> str:
    """What to say where CUDA was asked for."""
    return f"the CUDA device does not work ({problem}): say --device cpu"


def one_line(error: BaseException) -> str:
    """The first line of what an error says: the rest is advice for whoever debugs CUDA."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def make_repeatable(device: torch.device) -> None:
    """Chooses cuDNN algorithms that give the same bits each time.

    Only what is cheap: on CUDA a few backward kernels still add in a varying order, on a CPU nothing does
    as long as the number of threads stays the same.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
