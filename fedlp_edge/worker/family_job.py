"""The job that writes all files of a model: every depth in every precision that is wanted."""

from __future__ import annotations

from pathlib import Path, PurePath

import msgspec
import numpy as np
import torch

from fedlp_edge.core.metrics.tensor_ranges import MIN_DEVICES
from fedlp_edge.core.model_card import CardEntry, RefusedFile
from fedlp_edge.core.targets import BUILT_IN_TASKS, default_metric
from fedlp_edge.errors import ExportError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.export.family.file_answers import as_the_graph_takes
from fedlp_edge.learning.export.family.model_family import (
    SAMPLES_FOR_COST,
    FamilyOptions,
    ModelFamily,
)
from fedlp_edge.learning.export.family.multi_exit_graph import exits_of
from fedlp_edge.learning.export.self_test import SELF_TEST_SAMPLES, TOLERANCES, make_self_test, self_test_path
from fedlp_edge.learning.model.fresh_statistics import measure_statistics
from fedlp_edge.system.files import replacing
from fedlp_edge.worker.evaluate_jobs import export_samples, loaded_exits, output_names_of, tasks_by_depth
from fedlp_edge.worker.jobs import ExportFamily, FamilyExported, reason_line
from fedlp_edge.worker.resources import WorkerResources


def export_family(job: ExportFamily, resources: WorkerResources) -> FamilyExported:
    """Writes the files, and says what each is worth."""
    model, blueprint = resources.models.full_model(job.model.without_names)
    data, held_out = export_samples(job, model, blueprint, resources)
    model.to("cpu")
    if not job.data and _are_pictures(job, blueprint.input_shape):
        data = _as_pixels(data)
    submodel = loaded_exits(job, model, blueprint)
    if job.data:  # made inputs would give statistics of nothing
        measure_statistics(submodel, data, submodel.exits, lambda x: x)
    samples = held_out or data
    task = resources.task_of(job.model, blueprint)
    tasks, without = tasks_by_depth(job, submodel, samples, task)
    refused = [
        RefusedFile(depth=depth, precision=precision, reason=str(error))
        for depth, error in without.items()
        for precision in job.precisions
    ]
    if not tasks:
        return FamilyExported(files=(), refused=tuple(refused))
    family = ModelFamily(
        exits_of(submodel, tasks.keys(), submodel.answer),
        tasks,
        samples,
        data,
        Path(job.directory),
        FamilyOptions(
            name=job.model.name,
            classes=output_names_of(job, data, task, blueprint),
            units=job.model.target_units,
            features=job.model.input_names,
            metadata=job.metadata,
            precisions=job.precisions,
            early_exit=job.early_exit,
            answering=job.answering,
            opset=job.opset,
            raw_input=job.raw_input,
            labelled=bool(job.data),
            tokens=job.model.tokens,
            told={} if job.data else job.told,
        ),
    )
    written = family.write()
    if job.samples_path is not None:
        spread = torch.linspace(0, len(samples) - 1, min(SAMPLES_FOR_COST, len(samples))).long()
        np.save(job.samples_path, as_the_graph_takes(samples, spread, raw=written.raw_input))
    return FamilyExported(
        files=_with_self_tests(
            written.entries, Path(job.directory), samples, raw=written.raw_input, real=bool(job.data)
        ),
        refused=tuple(
            RefusedFile(
                depth=entry.depth,
                precision=entry.precision,
                early_exit=entry.early_exit,
                reason=reason_line(entry.reason),
            )
            for entry in (*refused, *written.refused)
        ),
        classes=output_names_of(job, data, task, blueprint),
        input_shape=blueprint.input_shape,
        input_type="uint8" if written.raw_input else "float32",
        features=job.model.input_names or samples.features,
        scale=samples.scale,
        mean=samples.mean,
        std=samples.std,
        metric=default_metric(task.name) if job.data and task.name in BUILT_IN_TASKS else "",
        samples=len(samples) if job.data else 0,
        calibration=_calibration(job, blueprint.input_shape) if "int8" in job.precisions else "",
        opset=written.opset,
    )


def _with_self_tests(
    entries: tuple[CardEntry, ...], directory: Path, samples: Dataset, *, raw: bool, real: bool
) -> tuple[CardEntry, ...]:
    """Writes a self-test of real samples beside each file; takes one of an earlier export away if there are none."""
    count = min(SELF_TEST_SAMPLES, len(samples))
    spread = torch.linspace(0, len(samples) - 1, count).long()
    inputs = as_the_graph_takes(samples, spread, raw=raw)
    tested = []
    for entry in entries:
        path = self_test_path(directory / entry.file)
        try:
            if not real:
                path.unlink(missing_ok=True)
            else:
                content = make_self_test(directory / entry.file, TOLERANCES[entry.precision], inputs)
                with replacing(path, durable=False) as partial:
                    partial.write_bytes(content)
        except OSError as error:
            raise ExportError(f"cannot write {path}: {error.strerror or error}") from None
        tested.append(msgspec.structs.replace(entry, self_test=path.name if real else ""))
    return tuple(tested)


def _calibration(job: ExportFamily, shape: tuple[int, ...]) -> str:
    if job.model.tokens:
        return "none: activations are quantised as they come"
    if job.data:
        return f"samples of {_without_folders(job.data)}"
    if len(job.told) >= MIN_DEVICES:
        return (
            f"ranges that {len(job.told)} devices have told of samples that they hold out; what int8 costs in accuracy "
            "is not measured here: devices find out in a roll-out"
        )
    made = "made inputs with the mean and deviation of each channel that devices have told"
    if not job.inputs.of_channels(shape[0]).channel_mean:
        made = "made inputs: no device has told what its samples look like"
    return f"{made}; {len(job.told)} have told ranges, and {MIN_DEVICES} are needed" if job.told else made


def _without_folders(data: str) -> str:
    """Returns a data specification without the folders of this machine, which say nothing elsewhere."""
    source, colon, rest = data.partition(":")
    place, mark, options = rest.partition("#")
    return f"{source}{colon}{PurePath(place).name}{mark}{options}"


def _are_pictures(job: ExportFamily, shape: tuple[int, ...]) -> bool:
    """Whether inputs are pictures, as the factor from bytes to shares of 255 says."""
    return len(shape) == 3 and shape[0] in (1, 3) and abs(job.inputs.scale * 255 - 1) < 1e-6


def _as_pixels(data: Dataset) -> Dataset:
    """Returns made inputs as bytes, as pictures are stored."""
    return Dataset.of_tensor(
        x=data.stored().round().clamp(0, 255).to(torch.uint8),
        y=data.y,
        classes=data.classes,
        scale=data.scale,
        mean=data.mean,
        std=data.std,
    )
