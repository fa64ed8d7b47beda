"""A worker writes the files of a model whose weights are in a checkpoint, on made inputs where there are no samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from fedlp_edge.core.device_data import InputFacts
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.worker.family_job import export_family
from fedlp_edge.worker.jobs import ExportFamily, WorkerOptions
from fedlp_edge.worker.resources import WorkerResources

MLP = ModelSettings(name="mlp", input=(1, 2, 2), classes=3, class_names=("a", "b", "c"))


def test_made_inputs_of_a_fleet_with_pictures_are_bytes(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    save_file(dict(build_model(MLP, 0).state_dict()), state)
    facts = InputFacts(scale=1 / 255, mean=(0.5,), std=(0.25,), channel_mean=(0.1,), channel_std=(0.9,))
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
    samples = np.load(tmp_path / "samples.npy")
    assert (samples.dtype, samples.shape) == (np.uint8, (64, 1, 2, 2))
