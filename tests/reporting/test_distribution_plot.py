"""The picture of who holds what."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedlp_edge.reporting.distribution_plot import distribution_figure, draw_distribution


def test_stacks_the_classes_of_each_device() -> None:
    (axes,) = distribution_figure(("cat", "dog"), np.array([[3, 1], [0, 4]]), "two devices").axes

    bars = [(bar.get_x() + bar.get_width() / 2, bar.get_y(), bar.get_height()) for bar in axes.patches]  # type: ignore[attr-defined]
    assert bars == [(0.0, 0, 3), (1.0, 0, 0), (0.0, 3, 1), (1.0, 0, 4)]
    assert axes.get_title(loc="left") == "two devices"


def test_draws_more_classes_than_there_are_names_for_colours(tmp_path: Path) -> None:
    counts = np.ones((2, 100), dtype=np.int64)
    draw_distribution(tuple(str(label) for label in range(100)), counts, "many", tmp_path / "who.png")

    assert (tmp_path / "who.png").read_bytes().startswith(b"\x89PNG")
