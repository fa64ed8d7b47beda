from __future__ import annotations

import json

import pytest

from fedlp_edge.cli.cost import parse_mix, rounded, scheme_cost
from fedlp_edge.cli.depths import build_blueprint
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError
from tests.cli.conftest import Run


@pytest.fixture(scope="module")
def paper_cnn() -> Blueprint:
    return build_blueprint(ModelSettings(name="fedlp-cnn", input=(3, 32, 32), classes=10, head_mode="personal"))


def test_prints_the_published_figures_as_a_table(fedlp: Run) -> None:
    done = fedlp("cost", "--model", "fedlp-cnn", "--input", "3x32x32", "--scheme", "homo", "--lpr", 0.5)

    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["communication", "(k)", "827.20"] in rows
    assert ["forward", "MACs", "(M)", "38.90"] in rows


def test_prints_one_object_as_json(fedlp: Run) -> None:
    done = fedlp("cost", "--model", "fedlp-cnn", "--input", "3x32x32", "--scheme", "hetero", "--json")

    assert json.loads(done.stdout) == {
        "down_kparams": 159.33,
        "up_kparams": 159.33,
        "communication_kparams": 318.66,
        "forward_mmacs": pytest.approx(24.06),
    }


def test_splits_into_as_many_depths_as_asked_for(fedlp: Run) -> None:
    model = "tests.learning.partition.test_partition_sequences:Encoder"
    options = ("cost", "--model", model, "--input", "12", "--classes", 3, "--tokens", "--head-mode", "shared")
    rows = fedlp(*options, "--depths", 2).stdout.splitlines()

    assert [row.split()[1] for row in rows if row.startswith("▮")] == ["1", "2"]


@pytest.mark.parametrize(
    ("scheme", "lpr", "mix", "communication"),
    [
        ("fedavg", None, None, 1102.93),
        ("homo", None, None, 827.20),
        ("homo", 0.5, None, 827.20),
        ("hetero", None, None, 318.66),
        ("hetero", None, (0.2, 0.2, 0.2, 0.2, 0.2), 318.66),
        ("hetero", 0.5, (0.0, 0.0, 0.0, 0.0, 1.0), 827.20),
        ("hetero", 1.0, (1.0, 0.0, 0.0, 0.0, 0.0), 20.54),
    ],
)
def test_counts_as_the_paper_does(paper_cnn, scheme, lpr, mix, communication) -> None:
    cost = scheme_cost(paper_cnn, scheme, lpr, mix)

    assert round(cost.communication_kparams, 2) == communication
    assert rounded(cost).communication_kparams == pytest.approx(
        rounded(cost).down_kparams + rounded(cost).up_kparams, abs=0.0015
    )


@pytest.mark.parametrize(
    ("scheme", "lpr", "mix", "message"),
    [
        ("homo", None, (1.0,), "--depth-mix goes with --scheme hetero"),
        ("fedavg", 0.5, None, "--lpr goes with --scheme homo or hetero"),
        ("hetero", None, (0.5, 0.5), "the depth mix has 2 shares, but fedlp-cnn has 5 depths"),
        ("hetero", None, (0.5, 0.5, 0.5, 0.0, 0.0), "must be shares that sum to 1, not 1.5"),
    ],
)
def test_refuses_options_that_do_not_fit(paper_cnn, scheme, lpr, mix, message) -> None:
    with pytest.raises(ConfigError, match=message):
        scheme_cost(paper_cnn, scheme, lpr, mix)


def test_reads_mixes() -> None:
    assert parse_mix("0.2,0.8") == (0.2, 0.8)


def test_refuses_what_is_no_mix() -> None:
    with pytest.raises(ConfigError, match="write one share per depth"):
        parse_mix("0.2;0.8")
