from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedlp_edge.cli.cost import CostOptions, cost_of_run, parse_mix, rounded, scheme_cost
from fedlp_edge.cli.depths import build_blueprint
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import ConfigError
from fedlp_edge.reporting.summary import DeviceRound, RoundSummary, Summary, save
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
        "down_bytes": 639163,
        "up_bytes": 639163,
        "once_bytes": 0,
        "encoding": "none",
        "broadcast": "none",
    }


def test_shows_both_directions_with_their_encodings_beside_the_papers_count(fedlp: Run, tmp_path: Path) -> None:
    entry = DeviceRound(
        id="a", profile="", depth=1, lpr=1.0, status="contributed", params_down=2000, params_up=1000,
        payload_down=3000, payload_up=500, bytes_down=3072, bytes_up=536,
    )  # fmt: skip
    rounds = tuple(RoundSummary(round=n, seconds=1.0, accuracy={}, devices=(entry,), coverage={}) for n in (1, 2))
    save(Summary(run="r", fleet="f", model="mlp", rounds=rounds), tmp_path / "summary.json")
    options = ("--encoding", "int8+zstd", "--broadcast", "fp16", "--devices", 4, "--rounds", 10, "--run", tmp_path)
    done = fedlp("cost", "--model", "fedlp-cnn", "--input", "3x32x32", "--scheme", "homo", *options)

    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "parameters, the paper's count 551.47 k 275.73 k 827.20 k" in rows
    assert "bytes 1.1 MB 278 kB 1.4 MB" in rows
    assert "in total, 4 x 10: parameters 22,058.64 k 11,029.32 k 33,087.96 k" in rows
    assert "realised: parameters, the paper's count 2.00 k 1.00 k 3.00 k" in rows
    assert "in total, 2 tasks: parameters 4.00 k 2.00 k 6.00 k" in rows
    assert rows.count("bytes as they travelled 3.1 kB 536 B 3.6 kB") == 1
    assert rows.count("bytes of models and updates 6.0 kB 1.0 kB 7.0 kB") == 1


def test_refuses_an_encoding_that_there_is_not(fedlp: Run) -> None:
    done = fedlp("cost", "--model", "mlp", "--input", "1x8x8", "--broadcast", "fp8")
    assert done.returncode == 2
    assert '--broadcast fp8: it must be "none", "fp16"' in done.stderr


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


def test_takes_the_model_the_depths_and_the_encodings_from_a_run(tmp_path: Path) -> None:
    entries = [
        DeviceRound(id=f"{depth}", profile="", depth=depth, lpr=0.5, status="contributed") for depth in (1, 1, 1, 3)
    ]
    rounds = (RoundSummary(round=1, seconds=1.0, accuracy={}, devices=tuple(entries), coverage={}),)
    save(Summary(run="r", fleet="f", model="mlp", rounds=rounds), tmp_path / "summary.json")
    (tmp_path / "config.toml").write_text(
        'fleet = "f"\n[model]\nname = "mlp"\ninput = [1, 8, 8]\n[update]\nencoding = "int8"\nbroadcast = "auto"\n'
    )
    model, options = cost_of_run(tmp_path, CostOptions(run=tmp_path))
    assert (model.name, model.input) == ("mlp", (1, 8, 8))
    assert (options.scheme, options.depth_mix, options.lpr) == ("hetero", "0.75,0.0,0.25", 0.5)
    assert (options.encoding, options.broadcast) == ("int8", "none")
    (tmp_path / "config.toml").write_text(
        'fleet = "f"\nrecipe = "fedlp-exits"\n[model]\nname = "mlp"\ninput = [1, 8, 8]\n'
    )
    model, options = cost_of_run(tmp_path, CostOptions(run=tmp_path))
    assert (model.exit_heads, options.encoding, options.broadcast) == ("max-pooled", "int8", "int8")


def test_without_a_model_or_a_run_says_what_to_name(fedlp: Run) -> None:
    done = fedlp("cost", "--input", "3x32x32")
    assert (done.returncode, done.stderr) == (2, "error: name --model and --input, or a run with --run DIR\n")
