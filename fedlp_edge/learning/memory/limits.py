"""What a job takes of memory on top of the idle worker: measured, and limited.

Analytical estimates are 1.1 to 1.7 times too low on a CPU, so rounds report what they really took. And a
worker that plays a smaller device must fail where the smaller device would: the kernel's limit on data
memory (``RLIMIT_DATA``) does that without root and without a container, and the worker survives it. It counts
neither shared memory nor other processes; where the worker has a control group of its own, that one does. CUDA
memory is limited by PyTorch's allocator.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import nn

from fedlp_edge.errors import OperatorError
from fedlp_edge.system.cgroups import ControlGroup

SLACK = 16 << 20
"""Bytes a limited job may take beyond its budget: threads' stacks, Python objects, allocator rounding."""

KERNELS = 8 << 20
"""Bytes of address space beside these for each convolution: libraries reserve 2 to 4 MB for the kernels of each size of
a batch, of which an epoch has two, and touch a tenth of it. A smaller device would not miss them."""

UNSEEN = 64 << 20
"""Bytes beyond these at which a control group strikes: pages that were mapped before and are touched only in training,
page tables and the like grow without the process's own limit noticing, and that one is to be met first."""

_SAMPLING_SECONDS = 0.005
_PAGE = resource.getpagesize()

_SAYS_SO = re.compile(
    r"(can't|cannot|failed to|unable to) (alloc|mmap)|not enough memory|out[ _]of[ _]memory|bad[ _]alloc|alloc_failed"
    r"|memory allocation failed",
    re.IGNORECASE,
)
"""What allocators say; few of them have a type of error of their own."""

_MOST_LIKELY = re.compile(r"could not (create|execute|initialize)|can't start new thread|thread creation failed", re.I)
"""What libraries such as oneDNN say for want of memory, and for other reasons where there is no want of it."""

_PRIMITIVE = re.compile(r"could not (create|execute) a primitive(?! descriptor)")

_SOMETHING_ELSE = (OperatorError, ValueError, TypeError, LookupError)
"""Kinds of errors whose words say nothing about memory, whatever they are; what they came of may."""


def is_out_of_memory(error: BaseException, *, limited: bool = False) -> bool:
    """Whether an exception, or one that it came of, says that memory ran out.

    Args:
        error: what was raised.
        limited: whether memory was limited. Libraries that get none then say no more than that something "could not be
            created", and nothing is as likely a cause.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        if _is_short(one, limited=limited):
            return True
        seen.append(one)
        one = one.__cause__ or one.__context__
    return False


def _is_short(error: BaseException, *, limited: bool) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    if isinstance(error, _SOMETHING_ELSE):
        return False
    if _SAYS_SO.search(str(error)):
        return True
    return limited and isinstance(error, RuntimeError) and _MOST_LIKELY.search(str(error)) is not None


def kernel_space(model: nn.Module) -> int:
    """Bytes of address space that the kernels of a model may reserve, beyond what they use."""
    return KERNELS * sum(parameter.dim() >= 3 for parameter in model.parameters())


def spoils_the_process(error: BaseException) -> bool:
    """Whether an error stays: oneDNN keeps a primitive that it could not make as one that cannot be made.

    Whoever asks for the same primitive again, in the same process, gets the same answer, however much memory there is.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        if _PRIMITIVE.search(str(one)):
            return True
        seen.append(one)
        one = one.__cause__ or one.__context__
    return False


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def give_back() -> None:
    """Returns freed memory to the system, so that the next job is measured from the same ground."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):  # a device that has failed answers everything like that
            torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


class PeakMeter:
    """Measures the highest memory between ``start`` and ``stop``.

    On a CPU the kernel's own high-water mark is used where it can be reset, which misses nothing; elsewhere
    a thread samples. On CUDA it is PyTorch's own count.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._base = 0
        self._peak = 0
        self._anonymous = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins; what is resident now is the ground that ``stop`` counts from.

        Memory that is free and still the process's is given back first: it would hide what is taken next.
        """
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._base = torch.cuda.memory_allocated(self._device)
            return
        give_back()
        self._base = self._peak = resident_bytes()
        self._anonymous = _status_bytes("RssAnon")
        if not _reset_high_water_mark():
            self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
            self._thread.start()

    def stop(self) -> int:
        """Ends.

        Returns:
            Bytes on top of what was resident at the start.
        """
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._base
        if self._thread is None:
            self._peak = _status_bytes("VmHWM")
        else:
            self._done.set()
            self._thread.join()
        return max(0, self._peak - self._base)

    @property
    def anonymous(self) -> int:
        """Bytes of memory proper that are resident now on top of the start; of a CPU."""
        return max(0, _status_bytes("RssAnon") - self._anonymous)

    @property
    def files(self) -> int:
        """Bytes of files, such as code, that are resident now on top of the start; of a CPU."""
        return max(0, resident_bytes() - self._base - self.anonymous)

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLING_SECONDS):
            self._peak = max(self._peak, resident_bytes())


@contextmanager
def limited(
    budget: int | None, device: torch.device, slack: int = SLACK, group: ControlGroup | None = None
) -> Iterator[None]:
    """Runs a block that may take ``budget`` bytes, and the stated slack, more than is taken now.

    Args:
        budget: bytes; None for no limit.
        device: whose memory is limited.
        slack: bytes beyond the budget that do not count.
        group: that this process is alone in; limited, on a CPU, for what the process's own limit does not see.
    """
    if budget is None:
        yield
    elif device.type == "cuda":
        # Every way of going beyond is an error of PyTorch's allocator, so the card's other users are safe.
        total = torch.cuda.get_device_properties(device).total_memory
        allowed = torch.cuda.memory_reserved(device) + budget + slack
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    else:
        # Freed memory that the allocator still holds would come on top of the budget.
        give_back()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = _status_bytes("VmData") + budget + slack
        if hard != resource.RLIM_INFINITY:
            allowed = min(allowed, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
        try:
            with _limited_group(group, budget + slack):
                yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def _limited_group(group: ControlGroup | None, nbytes: int) -> Iterator[None]:
    """Limits a group to what it has been charged with and so many bytes more, with ``UNSEEN`` to spare."""
    if group is None:
        yield
        return
    with suppress(OSError):  # the process's own limit holds, if this one cannot
        group.limit_memory(group.charged + nbytes + UNSEEN)
    try:
        yield
    finally:
        with suppress(OSError):
            group.limit_memory(None)


def _reset_high_water_mark() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_bytes(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
