"""A run directory is new or holds this very run, and its copy of the configuration keeps no secret."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import numpy as np
import pytest

from coordinator.config import FleetConfig, load_config
from coordinator.run_claim import claim, differences, with_weights_digest
from fedlp_edge.config import recipes
from fedlp_edge.config.toml import place
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.errors import ConfigError, OperatorError, StorageError
from fedlp_edge.reporting.summary import FinalModel, RoundSummary, Summary, load, save
from fedlp_edge.storage.checkpoints import Checkpoints
from fedlp_edge.storage.journal import Journal
from fedlp_edge.storage.run_directory import RunDirectory
from fedlp_edge.transport.address import BrokerAddress

TEXT = """# ours
fleet = "shop"
[broker]
url = "mqtt://ada:geheim@broker.local"
[training]
lr = 0.1
[data]
evaluate = "digits"
"""


def written(path: Path, text: str = TEXT) -> Path:
    path.write_text(text)
    return path


def begin(directory: Path, source: Path) -> RunDirectory:
    run = RunDirectory.open(directory)
    claim(run, source, load_config(source))
    return run


def finish(run: RunDirectory, rounds: int) -> None:
    done = tuple(
        RoundSummary(round=number, seconds=1.0, accuracy={}, devices=(), coverage={}) for number in range(1, rounds + 1)
    )
    final = FinalModel(accuracy={}, model_digest="")
    save(Summary(run="r", fleet="shop", model="m", rounds=done, final=final), run.summary)


def learn(run: RunDirectory) -> None:
    journal = Journal.open(run.journal)
    journal.open_round(1, 1, ())
    journal.commit_round(1, b"{}")
    journal.close()


def test_claim_names_each_setting_that_differs_with_its_old_and_new_value(tmp_path: Path) -> None:
    learn(begin(tmp_path / "run", written(tmp_path / "a.toml")))
    other = written(tmp_path / "b.toml", "seed = 7\n" + TEXT.replace("0.1", "0.2"))
    with pytest.raises(OperatorError) as raised:
        begin(tmp_path / "run", other)
    assert "seed is 7 and was 1; [training] lr is 0.2 and was 0.1" in str(raised.value)
    assert "--out" in str(raised.value)


def test_claim_gives_the_directory_of_a_run_that_learned_nothing_to_mended_settings(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", written(tmp_path / "a.toml"))
    run.events.touch()
    Checkpoints(run.checkpoints).save(0, {"w": np.zeros(2, np.float32)}, ServerState())
    begin(tmp_path / "run", written(tmp_path / "b.toml", TEXT.replace("0.1", "0.2")))
    assert load_config(run.config).training.lr == 0.2
    assert not run.events.exists()
    assert not list(run.checkpoints.iterdir())


def test_claim_keeps_a_run_of_the_same_name_that_devices_may_know(tmp_path: Path) -> None:
    named = 'run = "monday"\n' + TEXT
    run = begin(tmp_path / "run", written(tmp_path / "a.toml", named))
    begin(tmp_path / "run", written(tmp_path / "b.toml", named.replace("0.1", "0.2")))
    Checkpoints(run.checkpoints).save(0, {"w": np.zeros(2, np.float32)}, ServerState())
    with pytest.raises(OperatorError, match=r"\[training\] lr is 0.3 and was 0.2"):
        begin(tmp_path / "run", written(tmp_path / "c.toml", named.replace("0.1", "0.3")))


@pytest.mark.parametrize(
    "mended",
    [
        TEXT.replace('"digits"', '"digits#limit=50"'),
        f"{TEXT}[rounds]\ncount = 20\n",
        f"{TEXT}[rounds]\ndeadline_seconds = 9\n",
    ],
)
def test_claim_takes_a_mended_line_that_decides_nothing_for_the_same_run(tmp_path: Path, mended: str) -> None:
    begin(tmp_path / "run", written(tmp_path / "a.toml"))
    begin(tmp_path / "run", written(tmp_path / "b.toml", mended))


def test_claim_of_a_finished_run_goes_on_where_the_count_is_raised(tmp_path: Path) -> None:
    source = written(tmp_path / "a.toml", f"{TEXT}[rounds]\ncount = 2\n")
    finish(begin(tmp_path / "run", source), 2)
    with pytest.raises(OperatorError, match=r"finished after 2 rounds .* raise \[rounds\] count"):
        begin(tmp_path / "run", source)
    begin(tmp_path / "run", written(source, f"{TEXT}[rounds]\ncount = 3\n"))


def test_claim_of_a_run_that_has_learned_enough_goes_on_with_more_patience(tmp_path: Path) -> None:
    judged = TEXT + "[rounds]\ncount = 9\n[evaluation]\npatience = "
    source = written(tmp_path / "a.toml", f"{judged}2\n")
    run = begin(tmp_path / "run", source)
    done = tuple(
        RoundSummary(round=number, seconds=1.0, accuracy={1: value}, devices=(), coverage={})
        for number, value in enumerate((0.75, 0.5, 0.5), 1)
    )
    final = FinalModel(accuracy={}, model_digest="")
    save(Summary(run="r", fleet="shop", model="m", rounds=done, final=final), run.summary)
    why = r"finished after 3 rounds .*, since accuracy has not got better than 0.75 of round 1 in 2 measured rounds; "
    with pytest.raises(OperatorError, match=why + r"raise \[evaluation\] patience to go on"):
        begin(tmp_path / "run", source)
    begin(tmp_path / "run", written(source, f"{judged}3\n"))


@pytest.mark.parametrize("secret", ['url = "mqtt://ada:geheim@broker.local"', 'password = "geheim"\nusername = "ada"'])
def test_claim_keeps_a_copy_without_the_password(tmp_path: Path, secret: str) -> None:
    source = written(tmp_path / "a.toml", TEXT.replace('url = "mqtt://ada:geheim@broker.local"', secret))
    run = begin(tmp_path / "run", source)
    copy = run.config.read_text()
    assert "geheim" not in copy
    assert differences(load_config(run.config), load_config(source)) == []
    settings = load_config(run.config).broker
    assert settings.username == "ada" or BrokerAddress.parse(settings.url).username == "ada"


def test_claim_copies_a_configuration_without_secrets_as_it_is(tmp_path: Path) -> None:
    source = written(tmp_path / "a.toml", TEXT.replace("ada:geheim@", ""))
    assert begin(tmp_path / "run", source).config.read_text() == source.read_text()


def test_claim_copies_a_recipe_as_the_settings_that_it_has_now(tmp_path: Path) -> None:
    source = written(tmp_path / "fleet.toml", 'fleet = "shop"\nrecipe = "fedlp-homo"\n[scheme]\ndepth = "auto"\n')
    copy = begin(tmp_path / "run", source).config
    assert load_config(copy).scheme == load_config(source).scheme
    assert copy.read_text().splitlines() == [
        "# The settings of the recipe fedlp-homo are written out, as they were when the run began.",
        "",
        'fleet = "shop"',
        "",
        "[scheme]",
        'depth = "auto"',
        "lpr = 0.5",
    ]


def test_claim_goes_by_what_a_recipe_set_when_the_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = written(tmp_path / "fleet.toml", 'fleet = "shop"\nrecipe = "fedlp-homo"\n')
    learn(begin(tmp_path / "run", source))
    monkeypatch.setattr(recipes, "RECIPES", {"fedlp-homo": {"scheme": {"lpr": 0.25}}, "fedavg": {}})
    with pytest.raises(
        OperatorError, match=r'\[scheme\] lpr is 0.25 and was 0.5; \[scheme\] depth is "auto" and was "full"'
    ):
        begin(tmp_path / "run", source)


def test_differences_look_into_nested_tables() -> None:
    now = msgspec.convert({"fleet": "shop", "training": {"objective": {"proximal": 0.5}}}, FleetConfig)
    assert differences(FleetConfig(fleet="shop"), now) == ["[training.objective] proximal is 0.5 and was 0.0"]


def test_place_names_the_line_of_a_key_or_the_file_alone(tmp_path: Path) -> None:
    source = written(tmp_path / "a.toml")
    assert place(source, ("training", "lr")) == f"{source}:6: [training] lr"
    assert place(source, ("data", "evaluate")) == f"{source}:8: [data] evaluate"
    assert place(source, ("rounds", "count")) == f"{source}: [rounds] count"


def test_claim_of_a_finished_run_names_the_option_that_hands_its_models_out(tmp_path: Path) -> None:
    source = written(tmp_path / "a.toml", TEXT + "[rounds]\ncount = 2\n")
    run = begin(tmp_path / "run", source)
    finish(run, rounds=2)
    with pytest.raises(OperatorError, match="--hand-out"):
        begin(tmp_path / "run", source)
    claim(run, source, load_config(source), hand_out=True)


def test_claim_of_a_run_whose_models_are_not_handed_over_goes_on(tmp_path: Path) -> None:
    source = written(tmp_path / "a.toml", TEXT + "[rounds]\ncount = 2\n")
    run = begin(tmp_path / "run", source)
    finish(run, rounds=2)
    unfinished = msgspec.structs.replace(load(run.summary), delivered={"pi": "nothing was heard of it"})
    save(unfinished, run.summary)
    claim(run, source, load_config(source))
    save(msgspec.structs.replace(unfinished, handed_over=True), run.summary)
    with pytest.raises(OperatorError, match="is finished after 2 rounds"):
        claim(run, source, load_config(source))


def test_hand_out_of_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "a.toml")
    with pytest.raises(OperatorError, match="is not finished: leave --hand-out away"):
        claim(RunDirectory.open(tmp_path / "run"), source, load_config(source), hand_out=True)


def test_claim_refuses_a_run_of_an_earlier_version_before_it_reads_its_configuration(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path / "run")
    run.config.write_text("a key of before")
    with sqlite3.connect(run.journal) as db:
        db.execute("CREATE TABLE rounds (round INTEGER)")
    with pytest.raises(OperatorError, match="a run of an earlier version"):
        begin(run.path, written(tmp_path / "a.toml"))


def test_the_bytes_of_start_weights_decide_and_not_where_they_lie(tmp_path: Path) -> None:
    def source(weights: Path) -> tuple[Path, FleetConfig]:
        path = written(tmp_path / f"{weights.name}.toml", f'{TEXT}[model]\nweights = "{weights}"\n')
        return path, with_weights_digest(load_config(path), path, tmp_path / "run")

    first, moved, other = (tmp_path / name for name in ("a.pt", "b.pt", "c.pt"))
    for weights, content in ((first, b"abc"), (moved, b"abc"), (other, b"abd")):
        weights.write_bytes(content)
    run = RunDirectory.open(tmp_path / "run")
    claim(run, *source(first))
    assert load_config(run.config).model == source(first)[1].model
    assert "geheim" not in run.config.read_text()

    claim(run, *source(moved))
    assert source(moved)[1].run_name == source(first)[1].run_name
    learn(run)
    with pytest.raises(OperatorError, match=r"\[model\] weights is .a file with the SHA-256 [0-9a-f]{16}.... and was"):
        claim(run, *source(other))
    assert source(other)[1].run_name != source(first)[1].run_name

    moved.unlink()
    claim(run, *source(moved))
    first.unlink()
    with pytest.raises(ConfigError, match=r"a.pt.toml:10: \[model\] weights: there is no file .*a.pt"):
        source(first)


def test_claim_goes_on_where_a_power_cut_left_a_part_of_the_summary(tmp_path: Path) -> None:
    source = written(tmp_path / "fleet.toml")
    run = begin(tmp_path / "run", source)
    run.summary.write_bytes(b'{"run": "shop-1", "rou')
    claim(run, source, load_config(source))


def test_claim_does_not_begin_anew_over_the_checkpoints_of_a_run_whose_journal_was_not_copied(tmp_path: Path) -> None:
    source = written(tmp_path / "fleet.toml")
    run = begin(tmp_path / "run", source)
    Checkpoints(run.checkpoints).save(7, {"w": np.zeros(2, np.float32)}, ServerState())
    with pytest.raises(StorageError, match=r"not their journal \(.*\), without which 7 rounds would be done again"):
        claim(run, source, load_config(source))
    assert not run.journal.exists()
