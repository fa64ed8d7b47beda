"""All jobs, in a real worker process, on the model and data of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.core.settings import ModelSettings, TrainingSettings
from fedlp_edge.errors import DataError, ModelError, WorkerError
from fedlp_edge.learning.export.inference import Classifier
from fedlp_edge.worker.jobs import (
    Build,
    Built,
    CheckExport,
    Evaluate,
    Evaluated,
    Export,
    ExportChecked,
    Exported,
    Train,
    Trained,
    WorkerOptions,
)
from fedlp_edge.worker.process import WorkerProcess

MODEL = ModelSettings(name="small-cnn", input=(1, 8, 8), classes=10)
PERSONAL = msgspec.structs.replace(MODEL, head_mode="personal")


@pytest.fixture(scope="module")
def worker() -> Iterator[WorkerProcess]:
    with WorkerProcess(WorkerOptions(device="cpu")) as process:
        yield process


class Bench:
    """A directory with an initial state, and the jobs in short words."""

    def __init__(self, worker: WorkerProcess, directory: Path, model: ModelSettings = MODEL) -> None:
        self.worker = worker
        self.directory = directory
        self.model = model
        self.state = directory / "state.safetensors"
        built = worker.call(Build(model=model, seed=1, state_path=str(self.state)), timeout=120)
        assert isinstance(built, Built)
        self.blueprint: Blueprint = built.blueprint

    def sent(self, depth: int) -> dict[str, tuple[str, ...]]:
        return {unit.id: tuple(t.name for t in unit.tensors) for unit in self.blueprint.exchanged_by(depth)}

    def train(self, held: int, **changes: object) -> tuple[Trained, dict[str, np.ndarray]]:
        deltas = self.directory / "deltas"
        job = Train(
            model=self.model,
            depth=held,
            state_paths=(str(self.state),),
            sent=self.sent(held),
            freeze=False,
            training=TrainingSettings(),
            seed=5,
            head_seed=6,
            data="digits#limit=300",
            delta_dir=str(deltas),
        )
        for file in deltas.glob("*"):
            file.unlink()
        result = self.worker.call(msgspec.structs.replace(job, **changes), timeout=120)
        assert isinstance(result, Trained)
        return result, {name: delta for file in sorted(deltas.iterdir()) for name, delta in load_file(file).items()}

    def evaluate(self, *depths: int) -> Evaluated:
        job = Evaluate(model=self.model, state_path=str(self.state), depths=depths, data="digits")
        result = self.worker.call(job, timeout=120)
        assert isinstance(result, Evaluated)
        return result


@pytest.fixture
def bench(worker: WorkerProcess, tmp_path: Path) -> Bench:
    return Bench(worker, tmp_path)


def test_build_writes_the_same_initial_state_for_the_same_seed(bench: Bench, tmp_path: Path) -> None:
    state = load_file(bench.state)
    assert set(state) == {t.name for unit in bench.blueprint.global_units for t in unit.tensors}
    (tmp_path / "again").mkdir()
    again = load_file(Bench(bench.worker, tmp_path / "again").state)
    assert all(np.array_equal(state[name], again[name]) for name in state)


def test_a_round_learns_and_its_export_runs(bench: Bench) -> None:
    """Build, train, add the deltas, evaluate, export, infer: one device's life in a worker."""
    full = bench.blueprint.full_depth
    before = bench.evaluate(*bench.blueprint.depths)
    result, deltas = bench.train(full, data="digits", training=TrainingSettings(epochs=4))
    assert result.samples == 1438
    assert result.seconds > 0
    assert 0 < result.peak_memory < 1 << 30
    state = load_file(bench.state)
    new = {name: value + deltas.get(name, np.float32(0)) for name, value in state.items()}
    save_file(new | {name: deltas[name] for name in bench.blueprint.statistics & deltas.keys()}, bench.state)
    after = bench.evaluate(*bench.blueprint.depths)
    assert set(after.scores.accuracy) == set(bench.blueprint.depths)
    assert before.scores.accuracy[full] < 0.5
    assert after.scores.accuracy[full] > 0.9
    assert bench.evaluate(full).scores.accuracy[full] == after.scores.accuracy[full]

    exported = bench.worker.call(
        Export(
            model=MODEL,
            state_paths=(str(bench.state),),
            depths=(1, full),
            data="digits",
            directory=str(bench.directory / "onnx"),
            metadata={"run": "r"},
        ),
        timeout=120,
    )
    assert isinstance(exported, Exported)
    assert [model.file for model in exported.models] == ["small-cnn-depth-1.onnx", f"small-cnn-depth-{full}.onnx"]
    assert all(model.max_abs_diff <= 1e-4 for model in exported.models)
    assert exported.models[-1].accuracy == pytest.approx(after.scores.accuracy[full], abs=0.003)
    assert Classifier(bench.directory / "onnx" / exported.models[0].file).onnx_metadata.depth == 1


def test_train_stops_when_its_time_is_up_and_says_what_it_has_seen(bench: Bench) -> None:
    training = TrainingSettings(epochs=2, batch_size=20)
    result, deltas = bench.train(2, training=training, seconds=0.0)
    assert (result.samples, result.finished) == (10, False)  # a batch of 20 in the time of two epochs
    assert any(delta.any() for delta in deltas.values())
    result, _ = bench.train(2, training=training, seconds=600.0)
    assert (result.samples, result.finished) == (300, True)


def test_train_gives_the_same_bits_however_often_it_is_asked(bench: Bench) -> None:
    first, again = bench.train(2)[1], bench.train(2)[1]
    assert set(first) == {name for names in bench.sent(2).values() for name in names}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert any(delta.any() for delta in first.values())


def test_train_writes_one_file_per_retained_unit(bench: Bench) -> None:
    kept = {"L1": bench.sent(2)["L1"][:1], "H2": bench.sent(2)["H2"]}
    _, deltas = bench.train(2, sent=kept)
    assert sorted(file.name for file in (bench.directory / "deltas").iterdir()) == ["H2.safetensors", "L1.safetensors"]
    assert set(deltas) == {name for names in kept.values() for name in names}


def test_train_frozen_changes_retained_parameters_only(bench: Bench) -> None:
    """What is pruned stays as it was while training, so the rest learns something else than without freezing."""
    kept = {"H1": bench.sent(1)["H1"]}
    free = bench.train(1, sent=kept)[1]
    frozen = bench.train(1, sent=kept, freeze=True)[1]
    assert set(free) == set(frozen)
    assert any(not np.array_equal(free[name], frozen[name]) for name in free)
    assert any(delta.any() for delta in frozen.values())


def test_train_says_how_it_computed(worker: WorkerProcess, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path)
    pinned, deltas = bench.train(2, training=TrainingSettings(compute="float32-channels-last"))
    plain, others = bench.train(2, training=TrainingSettings(compute="float32"))
    assert (pinned.compute, plain.compute) == ("float32-channels-last", "float32")
    assert all(np.allclose(delta, others[name], atol=1e-4) for name, delta in deltas.items())


def test_train_chooses_once_how_it_computes(worker: WorkerProcess, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path)
    (first, before), (second, after) = bench.train(1), bench.train(1)
    assert first.compute == second.compute
    assert all(np.array_equal(delta, after[name]) for name, delta in before.items())


def test_train_keeps_a_personal_head_between_rounds(worker: WorkerProcess, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path, PERSONAL)
    head, later = tmp_path / "personal" / "first.safetensors", tmp_path / "personal" / "second.safetensors"
    names = {t.name for t in bench.blueprint.by_id["H1"].tensors}
    assert "H1" not in bench.sent(1)
    _, deltas = bench.train(1, withheld=("H1",), withheld_path=str(head))
    assert not names & set(deltas)
    first = load_file(head)
    assert set(first) == names
    _, deltas = bench.train(1, reused=("H1",), reused_path=str(head), withheld=("H1",), withheld_path=str(later))
    second = load_file(later)
    assert any(not np.array_equal(first[name], second[name]) for name in names)
    head.unlink()
    bench.train(1, withheld=("H1",), withheld_path=str(head))
    assert all(np.array_equal(first[name], value) for name, value in load_file(head).items())


def test_train_gives_the_same_bits_when_a_round_with_a_personal_head_is_done_again(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    bench = Bench(worker, tmp_path, PERSONAL)
    start, result = tmp_path / "start.safetensors", tmp_path / "result.safetensors"
    bench.train(1, withheld=("H1",), withheld_path=str(start))
    withheld = {"withheld": ("H1",), "withheld_path": str(result)}
    _, first = bench.train(1, reused=("H1",), reused_path=str(start), **withheld)
    head = result.read_bytes()
    _, again = bench.train(1, reused=("H1",), reused_path=str(start), **withheld)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert result.read_bytes() == head


def test_train_draws_a_new_personal_head_from_a_seed_of_its_own(worker: WorkerProcess, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path, PERSONAL)
    heads = []
    for round_seed, head_seed in ((1, 6), (2, 6), (2, 7)):
        head = tmp_path / f"{round_seed}-{head_seed}.safetensors"
        # With so small a step the head stays as it was drawn.
        training = TrainingSettings(lr=1e-30)
        bench.train(
            1, withheld=("H1",), withheld_path=str(head), seed=round_seed, head_seed=head_seed, training=training
        )
        heads.append(load_file(head))
    assert all(np.array_equal(heads[0][name], heads[1][name]) for name in heads[0])
    assert any(not np.array_equal(heads[1][name], heads[2][name]) for name in heads[1])


def test_train_refuses_a_personal_head_without_a_place_for_it(worker: WorkerProcess, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path, PERSONAL)
    with pytest.raises(ModelError, match="the head of depth 1 is personal"):
        bench.train(1)


def test_export_takes_a_personal_head_layers_from_several_files_and_the_devices_own_samples(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    bench = Bench(worker, tmp_path, PERSONAL)
    head = tmp_path / "head.safetensors"
    bench.train(2, withheld=("H2",), withheld_path=str(head))
    state, files = load_file(bench.state), []
    for unit in bench.blueprint.exchanged_by(2):
        files.append(tmp_path / f"{unit.id}.safetensors")
        save_file({name: state[name] for name in unit.state_names}, files[-1])
    job = Export(
        model=PERSONAL,
        state_paths=tuple(map(str, files)),
        personal_path=str(head),
        depths=(2,),
        data="digits#share=0/7",
        split="train",
        directory=str(tmp_path / "onnx"),
    )
    exported = worker.call(job, timeout=120)
    assert isinstance(exported, Exported)
    assert exported.models[0].max_abs_diff <= 1e-4
    with pytest.raises(DataError, match="no split 'valid'"):
        worker.call(msgspec.structs.replace(job, split="valid"), timeout=60)
    with pytest.raises(ModelError, match="the head of depth 2 is personal"):
        worker.call(msgspec.structs.replace(job, personal_path=None), timeout=60)


def test_jobs_refuse_what_does_not_go_together(bench: Bench) -> None:
    with pytest.raises(DataError, match="the samples have shape 1x28x28 but the model takes 1x8x8"):
        bench.train(1, data="fashion-mnist#limit=10")
    with pytest.raises(ModelError, match="not 99"):
        bench.train(1, depth=99)
    with pytest.raises(ModelError, match=r"exchanges no tensor L9\.weight"):
        bench.train(1, sent={"L9": ("L9.weight",)})
    with pytest.raises(WorkerError, match="cannot read the model state"):
        bench.train(1, state_paths=(str(bench.directory / "none"),))
    save_file({"other": np.zeros(1, np.float32)}, bench.state)
    with pytest.raises(ModelError, match=r"state\.safetensors lacks the tensor L1\."):
        bench.evaluate(1)


def test_train_reports_divergence_as_the_owners_to_mend(bench: Bench) -> None:
    with pytest.raises(WorkerError, match=r"training diverged .* lower \[training\] lr"):
        bench.train(1, training=TrainingSettings(lr=1e38))


def test_train_fails_for_memory_beyond_its_budget_and_the_worker_lives_on(tmp_path: Path) -> None:
    """Fashion-MNIST in one batch of 4,000 takes far more than the budget; in batches of 8 it does not."""
    model = ModelSettings(name="small-cnn", input=(1, 28, 28), classes=10)
    with WorkerProcess(WorkerOptions(device="cpu", memory_bytes=32 << 20)) as worker:
        bench = Bench(worker, tmp_path, model)
        full = bench.blueprint.full_depth
        with pytest.raises(WorkerError, match="memory ran out in Train"):
            bench.train(full, data="fashion-mnist#limit=4000", training=TrainingSettings(batch_size=4000))
        result, _ = bench.train(full, data="fashion-mnist#limit=64", training=TrainingSettings(batch_size=8))
        assert result.peak_memory < 48 << 20


def test_train_fails_for_memory_when_the_whole_process_has_its_share(tmp_path: Path) -> None:
    """A share far below what PyTorch takes leaves the slack alone: enough for a small batch, not for a large one."""
    model = ModelSettings(name="small-cnn", input=(1, 28, 28), classes=10)
    with WorkerProcess(WorkerOptions(device="cpu", process_bytes=1 << 20)) as worker:
        bench = Bench(worker, tmp_path, model)
        with pytest.raises(WorkerError, match="memory ran out in Train"):
            bench.train(1, data="fashion-mnist#limit=4000", training=TrainingSettings(batch_size=4000))
        result, _ = bench.train(1, data="fashion-mnist#limit=64", training=TrainingSettings(batch_size=8))
        assert result.peak_memory < 32 << 20


def test_train_fails_where_the_model_alone_is_too_much(tmp_path: Path) -> None:
    with WorkerProcess(WorkerOptions(device="cpu", memory_bytes=1000)) as worker:
        bench = Bench(worker, tmp_path)
        with pytest.raises(WorkerError, match="memory ran out in Train: the model's values alone take"):
            bench.train(1)


def test_train_goes_on_from_own_values_and_keeps_them(bench: Bench, tmp_path: Path) -> None:
    """A unit between two exchanges: two rounds at home, then the change of both is sent."""
    withheld_units = {unit: names for unit, names in bench.sent(2).items() if unit != "L1"}
    first = tmp_path / "first.safetensors"
    bench.train(2, sent=withheld_units, withheld=("L1",), withheld_path=str(first))
    state = load_file(bench.state)
    assert set(load_file(first)) == set(bench.sent(2)["L1"])
    assert any(not np.array_equal(state[name], value) for name, value in load_file(first).items())

    second = tmp_path / "second.safetensors"
    _, sent = bench.train(
        2, reused=("L1",), reused_path=str(first), withheld=("L1",), withheld_path=str(second), seed=6
    )
    for name, value in load_file(second).items():
        change = 0 if name in bench.blueprint.statistics else state[name]
        np.testing.assert_array_equal(sent[name], value - change)
        assert not np.array_equal(value, load_file(first)[name])


def test_train_freezes_nothing_that_stays_on_the_device(bench: Bench, tmp_path: Path) -> None:
    kept = tmp_path / "kept.safetensors"
    names = {"H2": bench.sent(2)["H2"]}
    bench.train(2, sent=names, freeze=True, withheld=("L2",), withheld_path=str(kept))
    state = load_file(bench.state)
    assert any(not np.array_equal(state[name], value) for name, value in load_file(kept).items())


def test_a_device_judges_what_it_starts_from_and_trains_as_it_would_without(bench: Bench) -> None:
    full = bench.blueprint.full_depth
    told, deltas = bench.train(full, holdout=0.2, judge=True)
    silent, same = bench.train(full, holdout=0.2)
    whole, _ = bench.train(full)
    assert silent.scores == {}
    (scores,) = told.scores.values()
    assert scores.samples + told.samples in (300, 301)  # a last batch of one sample is left out
    assert told.samples == silent.samples < whole.samples
    assert sum(scores.sums["support"]) == scores.samples
    assert all(np.array_equal(deltas[name], same[name]) for name in deltas)


def test_a_file_made_without_data_is_proved_on_a_device(bench: Bench) -> None:
    """The coordinator has made inputs alone; the device its own samples, and weights that came apart from the file."""
    depth = 2
    exported = bench.worker.call(
        Export(
            model=bench.model,
            state_paths=(str(bench.state),),
            depths=(depth,),
            data="",
            inputs=InputFacts(scale=1 / 16, mean=(0.3053,), std=(0.3761,)),
            directory=str(bench.directory / "onnx"),
        ),
        timeout=120,
    )
    assert isinstance(exported, Exported)
    (made,) = exported.models
    assert (made.accuracy, made.max_abs_diff < 1e-4) == (None, True)
    file = bench.directory / "onnx" / made.file
    assert Classifier(file).onnx_metadata.mean == (0.3053,)

    job = CheckExport(
        model=bench.model,
        depth=depth,
        state_paths=(str(bench.state),),
        file=str(file),
        data="digits#limit=300",
        holdout=0.2,
        ranges=True,
    )
    checked = bench.worker.call(job, timeout=120)
    assert isinstance(checked, ExportChecked)
    assert (checked.problem, checked.differs, checked.agreement) == ("", False, 1.0)
    assert checked.samples == checked.scores[depth].samples > 30
    assert checked.max_abs_diff < 1e-4
    given = checked.ranges[0]  # the input: normalised pixels from 0 to 16
    assert (given.size, given.low) == (64, pytest.approx(-0.3053 / 0.3761, rel=1e-3))
    assert len(checked.ranges) > 3

    other = {name: value + 1 for name, value in load_file(bench.state).items()}
    save_file(other, bench.directory / "other.safetensors")
    wrong = bench.worker.call(
        msgspec.structs.replace(job, state_paths=(str(bench.directory / "other.safetensors"),)), timeout=120
    )
    assert isinstance(wrong, ExportChecked)
    assert wrong.differs
    assert "differs from PyTorch" in wrong.problem
