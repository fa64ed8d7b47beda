"""Does a worker's jobs one after the other; what goes wrong in one becomes its answer."""

from __future__ import annotations

import contextlib
import sys
import traceback

import torch

from fedlp_edge.errors import (
    DataAwayError,
    DataError,
    ExportError,
    FedLPError,
    FreezeError,
    ModelError,
    StartWeightsError,
)
from fedlp_edge.learning import torch_device
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.memory.allocator import allocate_exactly, cached_allocation
from fedlp_edge.system.loading.loading_errors import loading_failure
from fedlp_edge.worker.build_jobs import build, calibrate, measure
from fedlp_edge.worker.evaluate_jobs import check_export, evaluate, export
from fedlp_edge.worker.family_job import export_family
from fedlp_edge.worker.jobs import (
    AnyJob,
    AnyResult,
    Build,
    Calibrate,
    CheckExport,
    Evaluate,
    Export,
    ExportFamily,
    Failed,
    Measure,
    Train,
    TryExport,
    WorkerOptions,
    reason_line,
)
from fedlp_edge.worker.resources import WorkerResources
from fedlp_edge.worker.train_job import train
from fedlp_edge.worker.trial_export_job import try_export


class JobRunner:
    """Does jobs one after the other and keeps models and data between them.

    Args:
        options: Options of the worker process.

    Attributes:
        resources: Objects that are kept from one job to the next.
    """

    def __init__(self, options: WorkerOptions) -> None:
        allocate_exactly()
        if options.threads > 0:
            torch.set_num_threads(options.threads)
            # It can be set once in a process, and not after operations have run side by side.
            with contextlib.suppress(RuntimeError):
                torch.set_num_interop_threads(1)
        self.resources = WorkerResources(options)

    @property
    def needs_new_process(self) -> bool:
        """Whether a library in this process is no longer to be trusted: another process should do the next job."""
        return self.resources.needs_new_process

    def run(self, job: AnyJob) -> AnyResult:
        """Does a job; whatever goes wrong becomes a ``Failed``."""
        resources = self.resources
        try:
            return self._do(job)
        except Exception as error:
            unusable = limits.requires_new_process(error)
            resources.needs_new_process |= unusable
            limited = isinstance(job, Train) and resources.options.limits_memory
            if limits.is_out_of_memory(error, limited=limited):
                reason = f"memory ran out in {type(job).__name__}: {reason_line(str(error))}"
                return Failed(kind="memory", reason=reason, again=unusable)
            if resources.on_cuda and (cause := torch_device.cuda_failure(error)) is not None:
                failed = self._cuda_failed(job, torch_device.cuda_error_line(cause))
                if failed is not None:
                    return failed
            elif isinstance(error, FedLPError):
                passing = isinstance(error, DataAwayError) and isinstance(job, Train)  # a lasting one ends its part
                return Failed(kind="worker" if passing else _kind(error), reason=reason_line(str(error)))
            else:
                traceback.print_exc(file=sys.stderr)
                reason = loading_failure(error) or f"{type(job).__name__}: {type(error).__name__}: {error}"
                return Failed(kind="worker", reason=reason_line(reason))
        finally:
            limits.trim_heap()
        return self.run(job)

    def _cuda_failed(self, job: AnyJob, problem: str) -> Failed | None:
        """Gives up the GPU, and this process; None if the job should be done on the CPU here, its last one.

        Most errors of a GPU stay in the process: every later call of CUDA fails alike, also those that PyTorch makes
        while it trains on the CPU, such as for a seed.
        """
        self.resources.needs_new_process = True
        if self.resources.options.device == "cuda":
            return Failed(kind="worker", reason=torch_device.cuda_does_not_work(problem))
        note = f"the CUDA device failed ({problem}): training on the CPU from now on"
        if isinstance(job, Train):
            return Failed(kind="worker", reason=note, without_gpu=True)
        self.resources.leave_cuda(note)
        return None

    def _do(self, job: AnyJob) -> AnyResult:  # noqa: PLR0911 - one return a kind of job
        match job:
            case Build():
                return build(job, self.resources)
            case Measure():
                return measure(job, self.resources)
            case Calibrate():
                return calibrate(job, self.resources)
            case Train():
                return train(job, self.resources)
            case Evaluate():
                with cached_allocation():
                    return evaluate(job, self.resources)
            case TryExport():
                return try_export(job, self.resources)
            case ExportFamily():
                return export_family(job, self.resources)
            case Export():
                return export(job, self.resources)
            case CheckExport():
                return check_export(job, self.resources)


def _kind(error: FedLPError) -> str:
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ExportError):
        return "export"
    if isinstance(error, FreezeError):
        return "freeze"
    if isinstance(error, StartWeightsError):
        return "start-weights"
    return "model" if isinstance(error, ModelError) else "worker"
