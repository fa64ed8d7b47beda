"""This module computes the checksums of chunks: the CRC-32 of zlib.

Every byte of a model passes through it twice, at its sender and at its receiver. zlib-ng computes it by instructions
that processors have for it, which pays where the bytes come from memory: 11.8 GB/s, where the zlib of Debian 12 does
2.3 GB/s (an Intel Xeon with AMX). It has no wheels for rare kinds of processors; there Python's own zlib does.
"""

from __future__ import annotations

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]
