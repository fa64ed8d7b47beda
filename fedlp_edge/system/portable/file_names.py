"""This module makes names of files from names of devices, which may differ in capitals alone."""

from __future__ import annotations

import hashlib
import sys

_DIGITS = 8


def name_for_file(text: str) -> str:
    """Returns a part of a file's name that no other text has.

    To the usual file systems of macOS and Windows ``Cam`` and ``cam`` are one file; there a text with capitals gets a
    few digits of its digest.
    """
    if sys.platform == "linux" or text == text.lower():
        return text
    return f"{text}~{hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]}"
