"""The jobs before the first round: build the model, and measure the device."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from torch import nn

from fedlp_edge.core.blueprint import BuildCost
from fedlp_edge.core.targets import BUILT_IN_TASKS
from fedlp_edge.learning import state_files
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.evaluation import try_samples
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.memory.allocator import cached_allocation, in_new_thread
from fedlp_edge.learning.profiling.throughput import training_macs_per_second
from fedlp_edge.learning.training.single_samples import check_single_samples
from fedlp_edge.learning.zoo.built_in import BUILT_IN
from fedlp_edge.learning.zoo.prepared import state_names
from fedlp_edge.learning.zoo.weight_loading import start_from
from fedlp_edge.system.portable.memory_use import resident_bytes
from fedlp_edge.worker.jobs import Build, Built, Calibrate, Calibrated, DeviceMeasurement, Measure, reason_line
from fedlp_edge.worker.resources import WorkerResources

log = logging.getLogger("fedlp.learning")


def build(job: Build, resources: WorkerResources) -> Built:
    """Builds the model, writes its initial values, and finds out what its samples and its training are."""
    meter = limits.PeakMeter(torch.device("cpu"))
    if job.steps:
        _ = resources.device  # the first steps of this process are not the model's
        meter.start()
    with _said_of_the_model() as warnings:
        model, blueprint = resources.models.new_model(job.model.without_names, job.seed)
    if job.steps and job.model.name not in BUILT_IN:
        blueprint = msgspec.structs.replace(blueprint, building=_build_cost(meter, model))
    data = resources.load_for(job.model, blueprint, job.data, job.split) if job.data else None
    if data is not None and job.steps:
        try_samples(model, data, resources.task_of(job.model, blueprint))
    check_single_samples(model, job.batch_size)
    report = None if job.weights is None else start_from(model, job.model, job.weights)
    if job.state_path is not None:
        state_files.save_values(model, Path(job.state_path), state_names(blueprint.global_units))
    if job.steps:
        # Only here: whoever watches steps loads more of PyTorch than whoever trains.
        from fedlp_edge.learning.profiling.step_trace import with_step_costs  # noqa: PLC0415

        blueprint = with_step_costs(model, blueprint)
    return Built(
        blueprint=blueprint,
        start_weights=report,
        targets=None if job.model.task in BUILT_IN_TASKS else resources.task_of(job.model, blueprint).targets,
        samples=0 if data is None else len(data),
        data=None if data is None else data.facts(),
        remarks="" if data is None else data.remarks,
        warnings=tuple(warnings),
    )


@contextmanager
def _said_of_the_model() -> Iterator[list[str]]:
    """Yields a list that gets what is warned of while a model is built and split."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(reason_line(record.getMessage()))

    listener = Listener(logging.WARNING)
    log.addHandler(listener)
    try:
        yield lines
    finally:
        log.removeHandler(listener)


def measure(job: Measure, resources: WorkerResources) -> DeviceMeasurement:
    """Loads the samples and measures how fast this device trains."""
    if job.reload:
        resources.forget_data()
    data = resources.load(job.data, job.split) if job.data else None
    device = resources.device
    with cached_allocation():
        speed = in_new_thread(lambda: training_macs_per_second(device, job.seconds))
    limits.trim_heap()
    facts = None if data is None else data.facts()
    found = None if data is None else data.found()
    reserve = 0
    open_size = data is not None and data.resizable and (spec := parse_spec(job.data)).leaves_size_open
    if data is not None and facts is not None and found is not None and open_size:
        facts = msgspec.structs.replace(facts, sample_shape=())
        found = msgspec.structs.replace(found, shape=())
        reserve = 0 if data.in_memory else spec.memory_bound
    on_cuda = resources.on_cuda
    return DeviceMeasurement(
        samples=0 if data is None else len(data),
        data=facts,
        found="" if found is None else str(found),
        data_reserve=reserve,
        remarks="" if data is None else data.remarks,
        training_macs_per_second=speed,
        processor=device.type,
        idle_memory=resident_bytes(),
        cuda_name=torch.cuda.get_device_name(device) if on_cuda else None,
        cuda_memory=torch.cuda.mem_get_info(device)[0] if on_cuda else None,
        cuda_shares_memory=on_cuda and bool(torch.cuda.get_device_properties(device).is_integrated),
        note=resources.take_note(),
    )


def calibrate(job: Calibrate, resources: WorkerResources) -> Calibrated:
    """Fits what this machine adds to what tensors take."""
    # Only here, as for steps.
    from fedlp_edge.learning.profiling import calibrate as profiling  # noqa: PLC0415

    clock = time.process_time if job.processor_time else time.perf_counter
    return Calibrated(calibration=profiling.calibrate(resources.device, clock=clock), torch=str(torch.__version__))


def _build_cost(meter: limits.PeakMeter, model: nn.Module) -> BuildCost:
    values = sum(value.nbytes for value in model.state_dict().values())
    # Files, such as a library's code, are left out: the kernel takes their pages back when memory is short.
    peak = meter.stop() - meter.files
    limits.trim_heap()
    return BuildCost(libraries=max(0, meter.anonymous - values), peak=max(0, peak))
