"""This module shares arrays between processes, without a named file that a killed process could leave behind.

The memory is an unlinked file, in RAM where the system has a file system for that; another process gets the file's
descriptor. When the last process that holds it ends, in whatever way, the kernel frees the memory. Windows has memory
with a random name instead, which ends in the same way.
"""

from __future__ import annotations

import math
import mmap
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]

_RAM = Path("/dev/shm")
_ALIGNMENT = 64  # bytes of a line of the processor's cache


class ArraySlot(msgspec.Struct, frozen=True):
    """The place of one array in the shared memory.

    Attributes:
        name: Name of the array.
        dtype: Type in numpy's notation, such as ``"<f4"``.
        shape: Dimensions of the array.
        offset: Offset of the first byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(np.dtype(self.dtype).itemsize) * math.prod(self.shape)


Layout = tuple[ArraySlot, ...]


def layout_of(arrays: Mapping[str, tuple[str, tuple[int, ...]]]) -> Layout:
    """Returns the layout of arrays of these types and shapes, one behind the other."""
    slots, offset = [], 0
    for name, (dtype, shape) in arrays.items():
        slots.append(ArraySlot(name, dtype, shape, offset))
        offset += -(-slots[-1].nbytes // _ALIGNMENT) * _ALIGNMENT
    return tuple(slots)


class SharedArrays:
    """Named arrays in one block of shared memory, which every process may write.

    Args:
        descriptor: File descriptor, which this object closes; -1 for memory with a name.
        layout: Places of the arrays.
        name: Name of the memory, on Windows; empty elsewhere.

    Attributes:
        arrays: Views by name, which keep the memory mapped while they exist.
    """

    def __init__(self, descriptor: int, layout: Layout, name: str = "") -> None:
        self.descriptor = descriptor
        self.layout = layout
        self.name = name
        size = max(1, max((slot.offset + slot.nbytes for slot in layout), default=0))
        if sys.platform == "win32":
            mapped = mmap.mmap(-1, size, tagname=name)
        else:
            mapped = mmap.mmap(descriptor, size)
        self.arrays: dict[str, AnyArray] = {
            slot.name: np.frombuffer(mapped, dtype=slot.dtype, count=math.prod(slot.shape), offset=slot.offset).reshape(
                slot.shape
            )
            for slot in layout
        }

    @classmethod
    def create(cls, layout: Layout) -> Self:
        """Allocates memory of zeros.

        Raises:
            OSError: Neither the file system in RAM nor that of temporary files has room for it.
        """
        if sys.platform == "win32":
            return cls(-1, layout, f"fedlp-{secrets.token_hex(16)}")
        size = max(1, sum(slot.nbytes + _ALIGNMENT for slot in layout))
        try:
            descriptor = _reserve(_RAM, size)
        except OSError:
            # Docker gives a container 64 MB there, and others have none or may not write.
            descriptor = _reserve(Path(tempfile.gettempdir()), size)
        return cls(descriptor, layout)

    @classmethod
    def copy_of(cls, arrays: Mapping[str, AnyArray]) -> Self:
        """Allocates memory with the values of these arrays."""
        made = cls.create(layout_of({name: (array.dtype.str, array.shape) for name, array in arrays.items()}))
        made.write(arrays)
        return made

    @classmethod
    def received(cls, layout: Layout, name: str, descriptors: Sequence[int]) -> Self:
        """Maps the memory that another process has created and passed on, without keeping its descriptor."""
        return cls(descriptors[0] if descriptors else -1, layout, name).close_descriptor()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What to pass to another process beside layout and name."""
        return (self.descriptor,) if self.descriptor >= 0 else ()

    def write(self, arrays: Mapping[str, AnyArray]) -> None:
        """Copies values into the arrays of the same names."""
        for name, array in arrays.items():
            self.arrays[name][...] = array

    def close_descriptor(self) -> Self:
        """Closes the descriptor and keeps the memory mapped, for a process that will not pass it on."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1
        return self

    def close(self) -> None:
        """Closes the descriptor; the memory is freed with the last view of it."""
        self.close_descriptor().arrays = {}


def _reserve(directory: Path, size: int) -> int:
    """Returns the descriptor of an unlinked file of zeros whose room is taken already.

    A file without it would end the process by SIGBUS where it is first written to, once the file system is full.

    Raises:
        OSError: There is no room, or no writable directory.
    """
    descriptor, path = tempfile.mkstemp(prefix="fedlp-", dir=directory)
    Path(path).unlink()
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:  # macOS, whose temporary files lie on a disk
            os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        error.filename = str(directory)
        raise
    return descriptor
