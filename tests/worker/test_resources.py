"""What a worker keeps from one job to the next."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from PIL import Image

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError
from fedlp_edge.worker.jobs import WorkerOptions
from fedlp_edge.worker.resources import WorkerResources
from tests.two_layers import NAME, SETTINGS, two_layers, write_samples


@pytest.fixture
def resources() -> WorkerResources:
    return WorkerResources(WorkerOptions(device="cpu", allow_models=(NAME,)))


@pytest.fixture
def blueprint() -> Blueprint:
    return two_layers().blueprint(NAME)


def test_same_samples_are_read_once(tmp_path: Path, resources: WorkerResources) -> None:
    data = write_samples(tmp_path / "a.npz", (1.0, -2.0), (3.0,))
    train = resources.load(data, "train")
    assert resources.load(data, "train") is train
    assert len(resources.load(data, "test")) == 1
    assert resources.load(data, "train", (1,)) is train  # the size of a sample matters to pictures alone


def test_two_data_sets_are_kept_and_the_oldest_let_go(tmp_path: Path, resources: WorkerResources) -> None:
    specs = [write_samples(tmp_path / f"{name}.npz", (1.0, -2.0)) for name in "abc"]
    first, second, _ = (resources.load(spec, "train") for spec in specs)
    assert resources.load(specs[1], "train") is second
    assert resources.load(specs[0], "train") is not first


def test_classes_have_the_numbers_of_the_fleet(
    tmp_path: Path, resources: WorkerResources, blueprint: Blueprint
) -> None:
    for number in range(10):
        path = tmp_path / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (1, 1), number).save(path)
    spec = f"imagefolder:{tmp_path}#size=1&channels=1"
    pictures = msgspec.structs.replace(blueprint, input_shape=(1, 1, 1))
    alone = resources.load_for(SETTINGS, pictures, spec, "train")
    fleet = msgspec.structs.replace(SETTINGS, class_names=("b", "a"))
    assert alone.classes == ("a", "b")
    assert resources.load_for(fleet, pictures, spec, "train").y.tolist() == (1 - alone.y).tolist()


def test_data_that_do_not_fit_are_refused(tmp_path: Path, resources: WorkerResources, blueprint: Blueprint) -> None:
    data = write_samples(tmp_path / "a.npz", (1.0, -2.0))
    wide = msgspec.structs.replace(blueprint, input_shape=(3,))
    with pytest.raises(DataError, match="the samples have shape 1 but the model takes 3"):
        resources.load_for(SETTINGS, wide, data, "train")
    with pytest.raises(DataError, match=r"^there is no split 'both': train or test$"):
        resources.load(data, "both")


def test_parts_do_not_overlap_and_are_kept(tmp_path: Path, resources: WorkerResources, blueprint: Blueprint) -> None:
    data = write_samples(tmp_path / "a.npz", tuple(map(float, range(1, 11))))
    whole, nothing = resources.load_parts(SETTINGS, blueprint, data, 0.0)
    assert (len(whole), nothing) == (10, None)
    trained, held_out = resources.load_parts(SETTINGS, blueprint, data, 0.5)
    assert held_out is not None
    assert sorted([*trained.stored().flatten().tolist(), *held_out.stored().flatten().tolist()]) == list(range(1, 11))
    again = resources.load_parts(SETTINGS, blueprint, data, 0.5)
    assert again[0].stored().tolist() == trained.stored().tolist()


def test_changed_samples_are_read_anew(tmp_path: Path, resources: WorkerResources) -> None:
    path = tmp_path / "a.npz"
    data = write_samples(path, (1.0, -2.0))
    resources.load(data, "train")
    write_samples(path, (1.0, -2.0, 3.0))
    resources.forget_data()
    assert len(resources.load(data, "train")) == 3


def test_worker_that_leaves_the_gpu_goes_on_without_what_was_on_it(resources: WorkerResources) -> None:
    models, compute = resources.models, resources.compute
    assert resources.models is models
    assert (resources.device, resources.on_cuda, resources.group) == (torch.device("cpu"), False, None)
    resources.leave_cuda("the GPU failed")
    assert resources.models is not models
    assert resources.compute is not compute
    assert (resources.take_note(), resources.take_note()) == ("the GPU failed", "")


def test_processor_can_be_chosen_once_where_the_choice_is_free() -> None:
    free = WorkerResources(WorkerOptions(device="auto"))
    free.choose_cpu()
    assert free.device == torch.device("cpu")


def test_task_of_a_model_says_how_it_is_judged(resources: WorkerResources, blueprint: Blueprint) -> None:
    assert resources.task_of(SETTINGS, blueprint).targets == "class"
    regression = ModelSettings(name=NAME, input=(1,), classes=2, task="regression")
    assert resources.task_of(regression, blueprint).targets == "values"
