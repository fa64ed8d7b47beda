"""This module chooses the torch device for training: a CUDA device that works, else the CPU, or what the owner asks."""

from __future__ import annotations

import re
import warnings

import torch
from torch import nn

from fedlp_edge.errors import FedLPError, WorkerError

_CUDA = re.compile(
    r"CUDA|cuDNN|CUBLAS|CUSPARSE|NVRTC|NVIDIA|device-side assert|no kernel image|HIP error|MIOpen|hipBLAS|rocBLAS", re.I
)
"""Words in the errors of CUDA, its driver and its libraries, and of ROCm, which PyTorch calls CUDA as well."""


def choose_device(wanted: str) -> tuple[torch.device, str]:
    """Chooses the torch device for training.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The torch device, a CUDA device with its index, and one line that says why it is the CPU although PyTorch lists
        a GPU; empty otherwise.

    Raises:
        WorkerError: ``cuda`` is wanted, and there is no CUDA device or it does not work.
    """
    if wanted == "cpu":
        return torch.device("cpu"), ""
    found, why = find_cuda()
    if not found:
        if wanted == "cuda":
            because = f" ({why})" if why else ""
            text = f"this machine has no CUDA device that PyTorch can use{because}: leave --device out, or say cpu"
            raise WorkerError(text)
        return torch.device("cpu"), f"PyTorch cannot use a GPU ({why}): training on the CPU" if why else ""
    problem = cuda_problem()
    if not problem:
        # With its index, which the limit of CUDA memory asks for.
        return torch.device("cuda", torch.cuda.current_device()), ""
    if wanted == "cuda":
        raise WorkerError(cuda_does_not_work(problem))
    return torch.device("cpu"), f"PyTorch lists a CUDA device, but it does not work ({problem}): training on the CPU"


def find_cuda() -> tuple[bool, str]:
    """Returns whether PyTorch lists a CUDA device and, if it does not, what it says of the reason; mostly empty.

    PyTorch warns where there is a driver that it cannot use, such as one that is too old, and not where there is none.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = torch.cuda.is_available()
    lines = [cuda_error_line(one.message) for one in said if isinstance(one.message, Warning)]
    about_cuda = [line.removeprefix("CUDA initialization: ") for line in lines if _CUDA.search(line)]
    return found, "" if found else "".join(about_cuda[:1])


def cuda_problem() -> str:
    """Runs a tiny train step on the CUDA device and returns the error in one line; empty if it works."""
    try:
        device = torch.device("cuda")
        x = torch.ones(2, 1, 4, 4, device=device)
        layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)).to(device)
        layers(x).sum().backward()
        torch.cuda.synchronize(device)
    except Exception as error:  # drivers raise errors of many types
        return cuda_error_line(error)
    return ""


def cuda_failure(error: BaseException) -> BaseException | None:
    """Returns what the CUDA device, its driver or its libraries raised, if that is an error or what caused it.

    A job's own errors may name CUDA, too, and are none of these; what caused them may be.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        if type(one).__name__ == "AcceleratorError" or (not isinstance(one, FedLPError) and _CUDA.search(str(one))):
            return one
        seen.append(one)
        one = one.__cause__ or one.__context__
    return None


def cuda_does_not_work(problem: str) -> str:
    """Returns the message for a user who asked for a CUDA device that does not work."""
    return f"the CUDA device does not work ({problem}): say --device cpu"


def cuda_error_line(error: BaseException) -> str:
    """Returns the first line of an error's text, without its place in PyTorch's source.

    The further lines of a CUDA error are advice for debugging CUDA.
    """
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(" (Triggered internally")[0][:200]


def make_repeatable(device: torch.device) -> None:
    """Makes cuDNN use algorithms whose results do not vary between calls.

    This covers only what costs little speed: a few CUDA backward kernels still add in a varying order. On a CPU results
    are repeatable as long as the number of threads stays the same.
    """
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
