"""Measures and limits the memory that a job takes on top of the idle worker.

Analytical estimates are 1.1 to 1.7 times too low on a CPU, so each round reports its measured peak. A worker that
simulates a smaller device must fail where that device would: the kernel's limit on data memory (``RLIMIT_DATA``) does
this without root and without a container, and the worker survives the failure. The limit counts neither shared memory
nor other processes; if the worker has a control group of its own, its limit does. CUDA memory is limited by PyTorch's
allocator.
"""

from __future__ import annotations

import errno
import gc
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn

from fedlp_edge.errors import OperatorError
from fedlp_edge.system.cgroups import ControlGroup
from fedlp_edge.system.portable.memory_use import (
    anonymous_bytes,
    high_water_mark,
    limited_data,
    reset_high_water_mark,
    resident_bytes,
    trim_allocator,
)

SLACK_BYTES = 16 << 20
"""Bytes that a limited job may take beyond its budget, for thread stacks, Python objects and allocator rounding."""

KERNEL_BYTES = 8 << 20
"""Bytes of address space that a limited job may take for each convolution, beyond its budget and ``SLACK_BYTES``:
libraries reserve 2 to 4 MB for the kernels of each batch size, of which an epoch has two, and use a tenth of it. A
smaller device would not need this memory."""

GROUP_SLACK_BYTES = 64 << 20
"""Bytes by which the limit of a control group is above that of the process: pages that were mapped before and are first
used in training, and page tables, count in the group alone, and the limit of the process should take effect first."""

_SAMPLING_SECONDS = 0.005

_MEMORY_MESSAGE = re.compile(
    r"(can't|cannot|failed to|unable to) (alloc|mmap)|not enough memory|out[ _]of[ _]memory|bad[ _]alloc|alloc_failed"
    r"|memory allocation failed|unable to find an engine to execute",
    re.IGNORECASE,
)
"""Messages of allocators that ran out of memory; few of them raise an error of a special type. cuDNN finds no engine
for a convolution when there is no memory for the workspace of any."""

_LIKELY_MEMORY_MESSAGE = re.compile(
    r"could not (create|execute|initialize)|can't start new thread|thread creation failed", re.I
)
"""Messages that libraries such as oneDNN give when memory ran out, and in other cases."""

_PRIMITIVE = re.compile(r"could not (create|execute) a primitive(?! descriptor)")

_OTHER_ERRORS = (OperatorError, ValueError, TypeError, LookupError)
"""Errors whose message does not tell whether memory ran out; their cause may."""


def is_out_of_memory(error: BaseException, *, limited: bool = False) -> bool:
    """Returns whether an exception, or one that caused it, means that memory ran out.

    Args:
        error: Exception that a job raised.
        limited: Whether memory was limited. Then a message that something "could not be created" counts as well, since
            libraries say no more if they get no memory.
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
    if isinstance(error, _OTHER_ERRORS):
        return False
    if _MEMORY_MESSAGE.search(str(error)):
        return True
    return limited and isinstance(error, RuntimeError) and _LIKELY_MEMORY_MESSAGE.search(str(error)) is not None


def kernel_space(model: nn.Module) -> int:
    """Returns the bytes of address space that the kernels of a model may reserve and not use."""
    return KERNEL_BYTES * sum(parameter.dim() >= 3 for parameter in model.parameters())


def requires_new_process(error: BaseException) -> bool:
    """Returns whether the process must be replaced after an error, since oneDNN caches failed primitives.

    A primitive that oneDNN could not create once fails again in this process, however much memory there is by then.
    """
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        if _PRIMITIVE.search(str(one)):
            return True
        seen.append(one)
        one = one.__cause__ or one.__context__
    return False


def trim_heap() -> None:
    """Returns freed memory to the system, so that the measurement of the next job starts from the idle worker."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        with suppress(RuntimeError):  # After a CUDA error, every call raises it again.
            torch.cuda.empty_cache()
    trim_allocator()


class PeakMeter:
    """Measures the peak memory between ``start`` and ``stop``.

    On a CPU it reads the kernel's high-water mark, which misses no peak; where that cannot be reset, a thread samples
    the resident memory. On CUDA it reads the peak that PyTorch counts.

    Args:
        device: Device whose memory is measured.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._base = 0
        self._peak = 0
        self._anonymous = 0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts the measurement; ``stop`` counts from the memory that is resident now.

        Freed memory is returned to the system first, because allocations from it would not be seen.
        """
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._base = torch.cuda.memory_allocated(self._device)
            return
        trim_heap()
        self._base = self._peak = resident_bytes()
        self._anonymous = anonymous_bytes()
        if not reset_high_water_mark():
            self._thread = threading.Thread(target=self._sample, name="memory", daemon=True)
            self._thread.start()

    def stop(self) -> int:
        """Ends the measurement.

        Returns:
            Peak memory in bytes on top of what was resident at the start.
        """
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) - self._base
        if self._thread is None:
            self._peak = high_water_mark()
        else:
            self._done.set()
            self._thread.join()
        return max(0, self._peak - self._base)

    @property
    def anonymous(self) -> int:
        """Bytes of anonymous memory (not files) that are resident now on top of the start, on a CPU."""
        return max(0, anonymous_bytes() - self._anonymous)

    @property
    def files(self) -> int:
        """Bytes of mapped files, such as code, that are resident now on top of the start, on a CPU."""
        return max(0, resident_bytes() - self._base - self.anonymous)

    def _sample(self) -> None:
        while not self._done.wait(_SAMPLING_SECONDS):
            self._peak = max(self._peak, resident_bytes())


@contextmanager
def limited(
    budget: int | None, device: torch.device, slack: int = SLACK_BYTES, group: ControlGroup | None = None
) -> Iterator[None]:
    """Limits a block to ``budget`` bytes, and ``slack``, on top of the memory that the process holds now.

    Args:
        budget: Bytes that the block may take; None for no limit.
        device: Device whose memory is limited.
        slack: Bytes that the block may take beyond the budget.
        group: Control group of this process alone; on a CPU it limits the memory that ``RLIMIT_DATA`` does not count.
            None if the process has no such group.
    """
    if budget is None:
        yield
    elif device.type == "cuda":
        # Only PyTorch's allocator enforces the limit, so other processes on the GPU are not affected. What it holds and
        # does not use would come on top of the budget.
        trim_heap()
        total = torch.cuda.get_device_properties(device).total_memory
        allowed = torch.cuda.memory_reserved(device) + budget + slack
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    else:
        # The block could use freed memory that the allocator still holds, on top of the budget.
        trim_heap()
        with limited_data(budget + slack), _limited_group(group, budget + slack):
            yield


@contextmanager
def _limited_group(group: ControlGroup | None, nbytes: int) -> Iterator[None]:
    """Limits a control group to the memory that it uses now, plus ``nbytes``, plus ``GROUP_SLACK_BYTES``."""
    if group is None:
        yield
        return
    with suppress(OSError):  # If the group cannot be limited, the limit of the process still holds.
        group.limit_memory(group.memory_bytes + nbytes + GROUP_SLACK_BYTES)
    try:
        yield
    finally:
        with suppress(OSError):
            group.limit_memory(None)
