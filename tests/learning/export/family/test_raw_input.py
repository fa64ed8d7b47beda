"""A graph takes the bytes of pictures."""

from __future__ import annotations

import numpy as np

from fedlp_edge.learning.export.family.multi_exit_graph import cut_exit
from fedlp_edge.learning.export.family.raw_input import with_raw_input
from fedlp_edge.learning.export.metadata import OnnxMetadata
from tests.learning.export.family.graphs import answer, two_exits


def test_a_graph_with_raw_input_normalises_bytes_as_a_data_set_does() -> None:
    about = OnnxMetadata(
        model="m",
        depth=1,
        input_shape=(1, 2, 2),
        classes=(),
        scale=1 / 255,
        mean=(0.5,),
        std=(0.25,),
        input_type="uint8",
    )
    model = with_raw_input(cut_exit(two_exits(), 1, ("logits",)), about)
    pixels = np.array([0, 51, 102, 255], dtype=np.uint8).reshape(1, 1, 2, 2)
    expected = 2 * (pixels.astype(np.float32) * np.float32(1 / 255) - np.float32(0.5)) / np.float32(0.25)
    np.testing.assert_array_equal(answer(model, pixels), expected)
