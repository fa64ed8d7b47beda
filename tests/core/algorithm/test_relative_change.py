import numpy as np

from fedlp_edge.core.algorithm.relative_change import relative_changes


def array(*values: float):
    return np.array(values, dtype=np.float32)


def test_relative_changes_compare_parameters_that_were_sent(paper_cnn):
    unit = paper_cnn.by_id["L2"]
    weights = {t.name: np.full(t.shape, 2.0, dtype=np.float32) for t in unit.tensors}
    sent = {"conv3.weight": np.full((64, 32, 3, 3), 0.5, np.float32), "conv3.norm.running_var": array(*[9.0] * 64)}
    assert relative_changes([unit, paper_cnn.by_id["L3"]], weights, sent) == {"L2": 0.25}


def test_relative_changes_of_statistics_alone_are_none(paper_cnn):
    sent = {"conv3.norm.running_var": array(*[9.0] * 64)}
    assert relative_changes([paper_cnn.by_id["L2"]], {}, sent) == {}


def test_relative_changes_of_a_unit_that_was_zero_are_one_or_nothing(three_depths):
    weights = {"block1.weight": np.zeros(1000, np.float32), "block2.weight": np.zeros(1000, np.float32)}
    sent = {"block1.weight": np.ones(1000, np.float32), "block2.weight": np.zeros(1000, np.float32)}
    assert relative_changes(three_depths.units, weights, sent) == {"L1": 1.0, "L2": 0.0}
