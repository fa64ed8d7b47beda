import math

import pytest

from fedlp_edge.core.accounting import (
    communication,
    download_bytes,
    level_packing,
    parameters,
    parameters_sent,
    upload_bytes,
)
from fedlp_edge.core.blueprint import Blueprint

FULL = (0, 0, 0, 0, 1)
UNIFORM = (0.2,) * 5


def test_parameters_of_the_papers_model_by_depth(paper_cnn: Blueprint):
    assert [parameters(paper_cnn.exchanged_by(d)) for d in paper_cnn.depths] == [
        10_272,
        28_896,
        65_952,
        140_064,
        551_466,
    ]


@pytest.mark.parametrize(
    ("mix", "lpr", "published"),
    [(FULL, 1.0, 1102.93), (FULL, 0.5, 827.20), (UNIFORM, 1.0, 318.66)],
    ids=["fedavg", "homo-0.5", "hetero-u"],
)
def test_communication_reproduces_the_published_table(paper_cnn: Blueprint, mix, lpr: float, published: float):
    assert round(communication(paper_cnn, mix, lpr).communication_kparams, 2) == published


def test_communication_splits_into_down_and_up(paper_cnn: Blueprint):
    cost = communication(paper_cnn, FULL, 0.5)
    assert cost.down_kparams == pytest.approx(551.466)
    assert cost.up_kparams == pytest.approx(275.733)
    assert cost.communication_kparams == pytest.approx(827.199)


def test_communication_counts_macs_of_the_whole_model(paper_cnn: Blueprint):
    # 884,736 + 9,437,184 + 4,718,592 + 9,437,184 + 4,718,592 + 9,437,184 + 262,144 + 1,280
    assert communication(paper_cnn, FULL, 1.0).forward_mmacs == pytest.approx(38.896896)


def test_communication_counts_macs_with_personal_heads(paper_cnn: Blueprint):
    # Depth 1: 10,321,920 for two convolutions, 8192 * 128 + 1280 for the head that is never sent.
    assert communication(paper_cnn, (1, 0, 0, 0, 0), 1.0).forward_mmacs == pytest.approx(11.371776)


def test_communication_counts_shared_heads(three_depths: Blueprint):
    assert communication(three_depths, (0.5, 0.5, 0.0), 1.0).down_kparams == pytest.approx(1.51)


@pytest.mark.parametrize(
    ("mix", "lpr", "words"),
    [
        ((1.0,), 1.0, "has 1 shares, but fedlp-cnn has 5 depths"),
        ((0.5, 0.2, 0.0, 0.0, 0.0), 1.0, "shares that sum to 1, not 0.7"),
        ((2.0, -1.0, 0.0, 0.0, 0.0), 1.0, "shares that sum to 1"),
        ((math.nan, 0.0, 0.0, 0.0, 1.0), 1.0, "shares that sum to 1"),
        (FULL, 1.5, "between 0 and 1, not 1.5"),
        (FULL, math.nan, "between 0 and 1, not nan"),
    ],
)
def test_communication_refuses_what_is_no_mix_or_no_rate(paper_cnn: Blueprint, mix, lpr: float, words: str):
    with pytest.raises(ValueError, match=words):
        communication(paper_cnn, mix, lpr)


def test_parameters_sent_counts_kept_parameters_without_statistics(paper_cnn: Blueprint):
    kept = {"L2": ("conv3.weight", "conv3.norm.running_mean"), "L3": ("conv4.bias",)}
    assert parameters_sent(paper_cnn.exchanged_by(3), kept) == 18_432 + 64


def test_upload_bytes_are_those_of_the_levels(paper_cnn: Blueprint):
    unit = paper_cnn.exchanged_by(1)[0]
    statistics = unit.nbytes - 4 * unit.parameters
    sizes = {encoding: upload_bytes(unit, encoding) - statistics for encoding in ("none", "int8", "int4+zstd")}
    assert sizes == {"none": 4 * unit.parameters, "int8": unit.parameters, "int4+zstd": unit.parameters // 2}


@pytest.mark.parametrize(("encoding", "packing"), [
    ("int8", (1, 255)), ("int4+zstd", (2, 16)), ("int2", (4, 4)), ("levels:3+zstd", (5, 3)), ("levels:5", (3, 5)),
    ("levels:7", (2, 7)), ("levels:15", (2, 15)), ("levels:17", (1, 17)), ("levels:255", (1, 255)),
])  # fmt: skip
def test_as_many_levels_share_a_byte_as_there_is_room_for(encoding: str, packing: tuple[int, int]):
    assert level_packing(encoding) == packing


def test_bytes_of_levels_in_both_directions(paper_cnn: Blueprint):
    unit = paper_cnn.exchanged_by(1)[0]
    statistics = unit.nbytes - 4 * unit.parameters
    assert upload_bytes(unit, "levels:5+zstd") - statistics == -(-unit.parameters // 3)
    assert download_bytes(unit, "levels:15") == download_bytes(unit, "int4")
    assert download_bytes(unit, "levels:3") < download_bytes(unit, "int2")


def test_parameters_sent_is_nothing_when_all_is_pruned(paper_cnn: Blueprint):
    assert parameters_sent(paper_cnn.exchanged_by(5), {}) == 0
