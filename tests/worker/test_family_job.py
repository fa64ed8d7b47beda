"""A worker writes the files of a model whose weights are in a checkpoint, on made inputs where there are no samples."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file

from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.core.metrics.answers import WantedAnswer
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.learning.export.activations.observed_tensors import observed_ranges
from fedlp_edge.learning.export.self_test import check_self_test
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.worker.family_job import _without_folders, export_family
from fedlp_edge.worker.jobs import ExportFamily, WorkerOptions
from fedlp_edge.worker.resources import WorkerResources
from tests.two_layers import NAME, SETTINGS, VALUES

MLP = ModelSettings(name="mlp", input=(1, 2, 2), classes=3, class_names=("a", "b", "c"))


def test_made_inputs_of_a_fleet_with_pictures_are_bytes(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    save_file(dict(build_model(MLP, 0).state_dict()), state)
    facts = InputFacts(scale=1 / 255, mean=(0.5,), std=(0.25,), channel_mean=(0.1,), channel_std=(0.9,))
    stale = tmp_path / "onnx/mlp-depth-1.selftest.npz"
    stale.parent.mkdir()
    stale.write_bytes(b"of an earlier export")
    job = ExportFamily(
        model=MLP, state_paths=(str(state),), depths=(1, 2), data="", inputs=facts, directory=str(tmp_path / "onnx"),
        precisions=("fp32", "int8"), samples_path=str(tmp_path / "samples.npy"),
    )  # fmt: skip
    done = export_family(job, WorkerResources(WorkerOptions(threads=0, device="cpu")))
    assert done.refused == ()
    assert [(entry.depth, entry.precision, entry.value) for entry in done.files] == [
        (1, "fp32", None), (1, "int8", None), (2, "fp32", None), (2, "int8", None)
    ]  # fmt: skip
    assert (done.input_type, done.classes, done.metric, done.samples) == ("uint8", ("a", "b", "c"), "", 0)
    assert done.calibration == "made inputs with the mean and deviation of each channel that devices have told"
    assert not stale.exists()
    samples = np.load(tmp_path / "samples.npy")
    assert (samples.dtype, samples.shape) == (np.uint8, (64, 1, 2, 2))


def test_ranges_that_enough_devices_have_told_are_named_on_the_card(tmp_path: Path) -> None:
    """Each depth is told of in a file of its own; the family is made of one graph with other names."""
    state = tmp_path / "state.safetensors"
    save_file(dict(build_model(MLP, 0).state_dict()), state)
    facts = InputFacts(scale=1.0, mean=(0.0,), std=(1.0,), channel_mean=(0.0,), channel_std=(1.0,))
    job = ExportFamily(
        model=MLP, state_paths=(str(state),), depths=(2,), data="", inputs=facts, directory=str(tmp_path / "fp32")
    )
    resources = WorkerResources(WorkerOptions(threads=0, device="cpu"))
    (file,) = export_family(job, resources).files
    x = np.random.default_rng(0).standard_normal((20, 1, 2, 2)).astype(np.float32)
    ranges = observed_ranges((tmp_path / "fp32" / file.file).read_bytes(), x)
    assert len(ranges) >= 3
    job = ExportFamily(
        model=MLP, state_paths=(str(state),), depths=(1, 2), data="", inputs=facts, directory=str(tmp_path / "int8"),
        precisions=("int8",), told=dict.fromkeys("abc", ranges),
    )  # fmt: skip
    done = export_family(job, resources)
    assert [entry.depth for entry in done.files] == [1, 2]
    assert done.calibration.startswith("ranges that 3 devices have told of samples that they hold out; what int8 costs")
    two = msgspec.structs.replace(job, told=dict.fromkeys("ab", ranges), depths=(2,))
    assert export_family(two, resources).calibration.endswith("; 2 have told ranges, and 3 are needed")


def test_real_samples_stand_in_a_self_test_beside_each_file(tmp_path: Path) -> None:
    model = ModelSettings(name="mlp", input=(1, 8, 8), class_names=tuple("0123456789"))
    state = tmp_path / "state.safetensors"
    save_file(dict(build_model(model, 0).state_dict()), state)
    job = ExportFamily(
        model=model, state_paths=(str(state),), depths=(1,), data="digits", directory=str(tmp_path),
        precisions=("fp32", "int8"),
    )  # fmt: skip
    done = export_family(job, WorkerResources(WorkerOptions(threads=0, device="cpu")))
    assert [entry.self_test for entry in done.files] == ["mlp-depth-1.selftest.npz", "mlp-depth-1-int8.selftest.npz"]
    for entry in done.files:
        assert check_self_test(tmp_path / entry.file, tmp_path / entry.self_test) == ""
    with np.load(tmp_path / "mlp-depth-1-int8.selftest.npz") as stored:
        assert (stored["input"].shape[0], float(stored["tolerance"])) == (8, 0.25)


def test_the_card_says_of_data_what_means_something_elsewhere() -> None:
    assert _without_folders("fashion-mnist#limit=9") == "fashion-mnist#limit=9"
    assert _without_folders("imagefolder:/home/anna/parts#size=64") == "imagefolder:parts#size=64"
    assert _without_folders("npy:samples/") == "npy:samples"
    assert _without_folders("shop.data:load") == "shop.data:load"


@pytest.mark.parametrize(("answer", "told"), [("auto", "mean of exits 1 to 2"), ("exit", None)])
def test_files_of_a_family_answer_with_the_mean_of_exits_that_all_devices_teach(
    tmp_path: Path, answer: WantedAnswer, told: str | None
) -> None:
    state = tmp_path / "state.safetensors"
    save_file({name: torch.tensor(rows) for name, rows in VALUES.items()}, state)
    job = ExportFamily(
        model=msgspec.structs.replace(SETTINGS, exits="all"), state_paths=(str(state),), depths=(2,), data="",
        directory=str(tmp_path), answer=answer,
    )  # fmt: skip
    resources = WorkerResources(WorkerOptions(threads=0, device="cpu", allow_models=(NAME,)))
    (file,) = export_family(job, resources).files
    metadata = onnxruntime.InferenceSession(tmp_path / file.file).get_modelmeta().custom_metadata_map
    assert metadata.get("fedlp.answer") == told
