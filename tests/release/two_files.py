"""An ONNX file whose weights stand in a file beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def write_two_files(path: Path) -> None:
    """Writes ``NAME.onnx`` and ``NAME.onnx.data``."""
    graph = helper.make_graph([], "g", [], [], [numpy_helper.from_array(np.ones(4, np.float32), "w")])
    onnx.save(
        helper.make_model(graph),
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )
