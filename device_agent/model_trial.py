"""Runs an ONNX file once on zeros, in a process of its own: ``python -m device_agent.model_trial FILE``.

Exit code 0 if it computes finite numbers; else the last line on standard error says what it does instead.
"""

from __future__ import annotations

import sys

import numpy as np


def problem_of(path: str) -> str:
    """Returns what is wrong with a file, in words that follow "the final model"; empty if nothing is."""
    import onnxruntime  # noqa: PLC0415 - here, so that a broken installation is an answer as well

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # otherwise threads are bound to cores that a container may not use
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in entry.shape]
    kind = np.uint8 if entry.type == "tensor(uint8)" else np.float32
    (logits, *_) = session.run(None, {entry.name: np.zeros(shape, kind)})
    return "" if np.isfinite(logits).all() else "computes numbers that are not finite"


def main() -> None:
    """Tries the file that the command line names."""
    try:
        problem = problem_of(sys.argv[1])
    except Exception as error:  # its own exceptions share no base class
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = f"does not run in onnxruntime: {said}"
    if problem:
        print(problem, file=sys.stderr, flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
