"""This module makes the self-tests that are signed with a release, in a process of its own for each file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SELF_TEST_SUFFIX = ".selftest.npz"
"""Suffix of a self-test, in place of ``.onnx``."""

_PRECISION = re.compile(r"-(fp16|int8)\.onnx\Z")
_SECONDS = 600.0


def make_self_tests(directory: Path) -> dict[str, str]:
    """Makes the self-test of each ONNX file that has none beside it.

    Args:
        directory: Directory of the files.

    Returns:
        Why a file has no self-test, by file name; files that have one are left out.
    """
    problems = {}
    for model in sorted(directory.glob("*.onnx")):
        path = model.with_name(model.name.removesuffix(".onnx") + SELF_TEST_SUFFIX)
        if path.is_file():
            continue
        found = _PRECISION.search(model.name)
        precision = found[1] if found else "fp32"
        command = [sys.executable, "-P", "-m", "fedlp_edge.learning.export.self_test", str(model), str(path), precision]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            problems[model.name] = f"it did not answer within {_SECONDS:g} s"
            continue
        if done.returncode:
            problems[model.name] = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return problems
