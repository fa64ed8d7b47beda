"""The worker's jobs, each a short sequence of what the modules beside this one do."""

from __future__ import annotations

import gc
import re
import sys
import time
import traceback
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec
import torch

from fedlp_edge.core.blueprint import Blueprint, BuildCost
from fedlp_edge.core.device_data import DataFacts
from fedlp_edge.core.settings import MemorySaving
from fedlp_edge.errors import DataError, ExportError, FedLPError, ModelError
from fedlp_edge.learning import state_files, torch_device
from fedlp_edge.learning.chance_accuracy import doubt
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec import DataSpec, parse_spec
from fedlp_edge.learning.evaluation import Scores, evaluate, try_samples
from fedlp_edge.learning.export import onnx as onnx_export
from fedlp_edge.learning.export.metadata import OnnxMetadata, names_of_outputs
from fedlp_edge.learning.memory import limits
from fedlp_edge.learning.memory.allocator import allocate_exactly, aside, cached_allocation
from fedlp_edge.learning.model.fresh_statistics import measure_statistics
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.profiling.throughput import training_macs_per_second
from fedlp_edge.learning.profiling.warmup import warm_up
from fedlp_edge.learning.training import fallback
from fedlp_edge.learning.training.compute_cache import ComputeCache
from fedlp_edge.learning.training.fallback import Execution
from fedlp_edge.learning.training.loop import TrainingOutcome, train_round
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.learning.zoo.built_in import BUILT_IN
from fedlp_edge.learning.zoo.prepared import PreparedModel, PreparedModels, state_names, tensor_names
from fedlp_edge.system.cgroups import ControlGroup
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.worker.jobs import (
    AnyJob,
    AnyResult,
    Build,
    Built,
    Calibrate,
    Calibrated,
    DeviceMeasurement,
    Evaluate,
    Evaluated,
    Export,
    Exported,
    ExportedModel,
    Failed,
    Measure,
    RefusedModel,
    Train,
    Trained,
    WorkerOptions,
)

_DATASETS_KEPT = 2  # one to train on, one to evaluate on
_MAX_REASON = 1000


class JobRunner:
    """Does jobs one after the other and keeps models and data between them.

    Args:
        options: how the worker process was started.
    """

    def __init__(self, options: WorkerOptions) -> None:
        allocate_exactly()
        if options.threads > 0:
            torch.set_num_threads(options.threads)
            torch.set_num_interop_threads(1)
        self._options = options
        self._device: torch.device | None = None
        self._models: PreparedModels | None = None
        self._compute: ComputeCache | None = None
        self._data: dict[tuple[DataSpec, Split], Dataset] = {}
        self._note = ""
        self._spoilt = False

    @property
    def spoilt(self) -> bool:
        """Whether a library in this process is no longer to be trusted: another process should do the next job."""
        return self._spoilt

    def run(self, job: AnyJob) -> AnyResult:
        """Does a job; whatever goes wrong becomes a ``Failed``."""
        try:
            return self._do(job)
        except Exception as error:
            spoilt = limits.spoils_the_process(error)
            self._spoilt |= spoilt
            limited = isinstance(job, Train) and self._options.limits_memory
            if limits.is_out_of_memory(error, limited=limited):
                words = f"memory ran out in {type(job).__name__}: {_one_line(str(error))}"
                return Failed(kind="memory", reason=words, again=spoilt)
            if isinstance(error, FedLPError):
                return Failed(kind=_kind(error), reason=_one_line(str(error)))
            if self._on_cuda and torch_device.is_cuda_failure(error):
                problem = torch_device.one_line(error)
                if self._options.device == "cuda":
                    return Failed(kind="worker", reason=torch_device.does_not_work(problem))
                self._leave_cuda(f"the CUDA device failed ({problem}): training on the CPU from now on")
            else:
                traceback.print_exc(file=sys.stderr)
                return Failed(kind="worker", reason=_one_line(f"{type(job).__name__}: {type(error).__name__}: {error}"))
        finally:
            limits.give_back()
        return self.run(job)

    def _do(self, job: AnyJob) -> AnyResult:
        match job:
            case Build():
                return self._build(job)
            case Measure():
                return self._measure(job)
            case Calibrate():
                return self._calibrate(job)
            case Train():
                return self._train(job)
            case Evaluate():
                with cached_allocation():
                    return self._evaluate(job)
            case Export():
                return self._export(job)

    def _build(self, job: Build) -> Built:
        meter = limits.PeakMeter(torch.device("cpu"))
        if job.steps:
            _ = self.device  # the first steps of this process are not the model's
            meter.start()
        model, blueprint = self.models.fresh(job.model.without_names, job.seed)
        if job.steps and job.model.name not in BUILT_IN:
            blueprint = msgspec.structs.replace(blueprint, building=_building(meter, model))
        data = self._fitting(job, blueprint) if job.data else None
        if data is not None and job.steps:
            try_samples(model, data)
        if job.state_path is not None:
            state_files.save_values(model, Path(job.state_path), state_names(blueprint.global_units))
        if job.steps:
            # Only here: whoever watches steps loads more of PyTorch than whoever trains.
            from fedlp_edge.learning.profiling.step_trace import with_steps  # noqa: PLC0415

            blueprint = with_steps(model, blueprint)
        facts = None if data is None else data.facts()
        return Built(
            blueprint=blueprint,
            samples=0 if data is None else len(data),
            data=facts,
            remarks="" if data is None else data.remarks,
        )

    def _measure(self, job: Measure) -> DeviceMeasurement:
        if job.reload:
            self._data.clear()
        data = self._load(job.data, _split(job.split)) if job.data else None
        device = self.device
        with cached_allocation():
            speed = aside(lambda: training_macs_per_second(device, job.seconds))
        limits.give_back()
        on_cuda = self.device.type == "cuda"
        return DeviceMeasurement(
            samples=0 if data is None else len(data),
            data=None if data is None else self._described(job, data),
            remarks="" if data is None else data.remarks,
            training_macs_per_second=speed,
            processor=self.device.type,
            idle_memory=limits.resident_bytes(),
            cuda_name=torch.cuda.get_device_name(self.device) if on_cuda else None,
            cuda_memory=torch.cuda.mem_get_info(self.device)[0] if on_cuda else None,
            note=self._take_note(),
        )

    def _calibrate(self, job: Calibrate) -> Calibrated:
        # Only here, as for steps.
        from fedlp_edge.learning.profiling.calibrate import calibrate  # noqa: PLC0415

        clock = time.process_time if job.processor_time else time.perf_counter
        return Calibrated(calibration=calibrate(self.device, clock=clock), torch=str(torch.__version__))

    def _train(self, job: Train) -> Trained:
        if job.after_crash and self._options.device == "auto" and self._device is None:
            self._set_device(torch.device("cpu"))
        settings = job.model.without_names
        ready = self.models.part(settings, job.depth)
        blueprint, model = ready.blueprint, ready.model
        data = self._fitting(job, blueprint)
        units = blueprint.exchanged_by(job.depth)
        downloaded = state_names(units)
        unknown = {name for names in job.sent.values() for name in names} - set(tensor_names(units))
        if unknown:
            raise ModelError(f"depth {job.depth} exchanges no tensor {sorted(unknown)[0]}")
        personal = self._load_personal_head(job, ready)
        before = [Path(path) for path in job.state_paths]
        kept = [*personal, *_exchanged(blueprint, job.depth, job.kept)]
        trainable = {*kept, *(n for names in job.sent.values() for n in names)} if job.freeze else None

        own_heads = {name: model.state_dict()[name].clone() for name in personal}

        def start() -> None:
            ready.forget_rounds()
            state_files.put_values(model, own_heads)
            state_files.load_values(model, before, downloaded)
            if job.reused_path is not None:
                state_files.load_values(model, [Path(job.reused_path)], _exchanged(blueprint, job.depth, job.own))

        # The model is resident already, but it is part of what training takes.
        budget, group = self._budget_beside(ready), self._group
        until = None if job.seconds is None else time.perf_counter() + job.seconds
        place = (job.training, settings, job.depth)

        def limit() -> AbstractContextManager[None]:
            return limits.limited(budget, self.device, limits.SLACK + limits.kernel_space(model), group)

        def attempt(execution: Execution) -> tuple[TrainingOutcome, int]:
            meter = limits.PeakMeter(self.device)
            # What an earlier attempt left, such as its kernels, is not this one's: each has the whole budget.
            with _allocating(execution.memory_saving, budget), limit():
                meter.start()
                start()
                outcome = train_round(
                    model,
                    data,
                    execution.of(job.training),
                    seed=job.seed,
                    device=self.device,
                    trainable=trainable,
                    fused=execution.fused,
                    budget=None if until is None else until - time.perf_counter(),
                )
                state_files.save_update(model, before, job.sent, Path(job.delta_dir), blueprint.statistics)
                return outcome, meter.stop() + ready.nbytes

        if job.after_crash:
            suspects = self.compute.suspects(job.after_crash, *place, budget=budget)
            execution = Execution(memory_saving=msgspec.structs.replace(job.training.memory, allocator="exact"))
        else:
            suspects = ()
            with _allocating(job.training.memory, budget):
                execution = self.compute.execution(
                    model, data, *place, start=start, limit=None if budget is None else limit, budget=budget
                )
        (outcome, peak), used, setbacks = fallback.trained(execution, attempt, limited=budget is not None)
        if job.withheld_path is not None:
            state_files.save_values(model, Path(job.withheld_path), kept)
        notes = self.compute.learn((*suspects, *setbacks), used, *place, budget=budget)
        if job.after_crash:
            notes = (f"trained in a new worker process in {used.compute}, and so from now on",)
        self._spoilt |= any(setback.spoils for setback in setbacks)
        if note := self._take_note():
            notes = (*notes, note)
        return Trained(
            samples=max(1, outcome.seen // job.training.epochs),
            loss=outcome.loss,
            seconds=outcome.seconds,
            peak_memory=peak,
            compute=outcome.compute,
            finished=outcome.finished,
            notes=notes,
        )

    def _evaluate(self, job: Evaluate) -> Evaluated:
        model, blueprint = self.models.whole(job.model.without_names)
        data = self._fitting(job, blueprint, "test").to(self.device)
        wanted = dict.fromkeys(name for depth in job.depths for name in _path(blueprint, depth))
        state_files.load_values(model, [Path(job.state_path)], wanted)
        model.to(self.device)
        only_full = job.depths == (blueprint.full_depth,)
        measure_statistics(model, data, model if only_full else model.exits, lambda x: x)
        if only_full:
            scores = evaluate(model, lambda x: [model(x)], job.depths, data, job.batch_size)
        else:

            def logits(x: torch.Tensor) -> list[torch.Tensor]:
                exits = model.exits(x)
                return [exits[depth - 1] for depth in job.depths]

            scores = evaluate(model, logits, job.depths, data, job.batch_size)
        return Evaluated(
            accuracy=scores.accuracy,
            loss=scores.loss,
            samples=len(data),
            ensemble_accuracy=scores.ensemble_accuracy,
            ensemble_loss=scores.ensemble_loss,
            known_loss=scores.known_loss,
            doubt="" if job.training_loss is None else self._doubt(job.training_loss, model, data, scores),
        )

    def _doubt(self, training_loss: float, model: LayeredModel, data: Dataset, scores: Scores) -> str:
        best, accuracy = max(scores.accuracy.items(), key=lambda item: (item[1], item[0]))
        names = names_of_outputs(data.classes, model.classes)
        return doubt(model, lambda x: model(x, depth=best), data, accuracy, training_loss, names)

    def _export(self, job: Export) -> Exported:
        model, blueprint = self.models.whole(job.model.without_names)
        data = self._fitting(job, blueprint)
        model.to("cpu")
        classes = names_of_outputs(job.model.class_names or data.classes, blueprint.classes)
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", job.model.name)
        written: list[ExportedModel] = []
        refused: list[RefusedModel] = []
        for depth in job.depths:
            submodel = model.submodel(depth, exits="own")
            self._load_for_export(job, submodel, blueprint, depth)
            measure_statistics(submodel, data, submodel, lambda x: x)
            card = OnnxMetadata(
                model=job.model.name,
                depth=depth,
                input_shape=blueprint.input_shape,
                classes=classes,
                scale=data.scale,
                mean=data.mean,
                std=data.std,
            )
            path = Path(job.directory) / f"{stem}-depth-{depth}.onnx"
            try:
                checked = onnx_export.export(submodel, card, data, path, job.metadata)
            except ExportError as error:
                refused.append(RefusedModel(depth, _one_line(str(error))))
                continue
            written.append(
                ExportedModel(file=path.name, depth=depth, max_abs_diff=checked.max_abs_diff, accuracy=checked.accuracy)
            )
        return Exported(models=tuple(written), refused=tuple(refused))

    def _load_for_export(self, job: Export, model: torch.nn.Module, blueprint: Blueprint, depth: int) -> None:
        path = blueprint.exit_path(depth)
        exchanged = state_names(unit for unit in path if blueprint.is_global(unit))
        personal = state_names(unit for unit in path if not blueprint.is_global(unit))
        state_files.load_values(model, [Path(file) for file in job.state_paths], exchanged)
        if personal and job.personal_path is None:
            raise ModelError(f"the head of depth {depth} is personal: only the devices of that depth can export it")
        if personal and job.personal_path is not None:
            state_files.load_values(model, [Path(job.personal_path)], personal)

    def _load_personal_head(self, job: Train, ready: PreparedModel) -> list[str]:
        """Fills the heads that stay on this device; returns their tensors' names, none if heads are shared."""
        held = ready.blueprint.held_by(job.depth)
        personal = state_names(unit for unit in held if not ready.blueprint.is_global(unit))
        if not personal:
            return []
        if job.withheld_path is None:
            raise ModelError(f"the head of depth {job.depth} is personal, but no file to keep it in is named")
        if job.personal_path is not None:
            state_files.load_values(ready.model, [Path(job.personal_path)], personal)
        else:
            fresh = build_model(job.model.without_names, job.head_seed, allow_models=self._options.allow_models)
            state_files.copy_values(fresh, ready.model, personal)
        return personal

    def _budget_beside(self, ready: PreparedModel) -> int | None:
        """Bytes that training may take on top of what this process has by now, the model included."""
        bounds = []
        if (budget := self._options.memory_bytes) is not None:
            if ready.nbytes > budget:
                raise MemoryError(f"the model's values alone take {ready.nbytes} bytes of the {budget} allowed")
            bounds.append(budget - ready.nbytes)
        if (whole := self._options.process_bytes) is not None and self.device.type == "cpu":
            bounds.append(max(0, whole - limits.resident_bytes()))
        return min(bounds, default=None)

    @property
    def _group(self) -> ControlGroup | None:
        directory = self._options.memory_group
        return None if directory is None else ControlGroup.at(Path(directory))

    def _fitting(self, job: Build | Train | Evaluate | Export, blueprint: Blueprint, split: str = "") -> Dataset:
        """A job's samples in the size of the model, numbered as the fleet numbers its classes."""
        wanted = _split(split or getattr(job, "split", "train"))
        data = self._load(job.data, wanted, blueprint.input_shape)
        names = job.model.class_names
        data.check_fits(blueprint.input_shape, blueprint.classes, names)
        return data.numbered_as(names)

    def _described(self, job: Measure, data: Dataset) -> DataFacts:
        facts = data.facts()
        takes_any_size = parse_spec(job.data).takes_any_size
        return msgspec.structs.replace(facts, sample_shape=()) if takes_any_size else facts

    def _load(self, spec: str, split: Split, input_shape: tuple[int, ...] = ()) -> Dataset:
        # The shape matters to pictures alone, and other samples must not be held twice.
        wanted = (parse_spec(spec).whole().for_model(input_shape), split)
        if wanted not in self._data:
            while len(self._data) >= _DATASETS_KEPT:
                del self._data[next(iter(self._data))]
            self._data[wanted] = load_data(*wanted)
        return self._data[wanted]

    @property
    def device(self) -> torch.device:
        """The processor, chosen by the first job so that a wrong choice is that job's answer."""
        if self._device is None:
            device, self._note = torch_device.choose(self._options.device)
            self._set_device(device)
        return self._device or torch.device("cpu")

    def _set_device(self, device: torch.device) -> None:
        self._device = device
        torch_device.make_repeatable(device)
        warm_up(device)
        # What is loaded by now stays: the collections between jobs need not look through torch each time.
        gc.collect()
        gc.freeze()

    @property
    def _on_cuda(self) -> bool:
        return self._device is not None and self._device.type == "cuda"

    def _leave_cuda(self, note: str) -> None:
        """Goes on with the CPU: what was on the GPU is lost, and is built and loaded anew."""
        self._models = self._compute = None
        self._note = note
        self._set_device(torch.device("cpu"))

    def _take_note(self) -> str:
        """What the owner should know and was not told yet."""
        note, self._note = self._note, ""
        return note

    @property
    def compute(self) -> ComputeCache:
        """How this worker computes."""
        if self._compute is None:
            self._compute = ComputeCache(self.device, cache_directory("compute"))
        return self._compute

    @property
    def models(self) -> PreparedModels:
        """The models of this worker."""
        if self._models is None:
            self._models = PreparedModels(self.device, self._options.allow_models)
        return self._models


def _allocating(memory_saving: MemorySaving, budget: int | None) -> AbstractContextManager[None]:
    """The block in which training with this thrift allocates; a heap that keeps what is free stays in the budget."""
    return cached_allocation(budget) if memory_saving.allocator == "cached" else nullcontext()


def _path(blueprint: Blueprint, depth: int) -> list[str]:
    if depth not in blueprint.depths:
        raise ModelError(f"{blueprint.model} has depths 1 to {blueprint.full_depth}, not {depth}")
    return state_names(blueprint.exit_path(depth))


def _building(meter: limits.PeakMeter, model: torch.nn.Module) -> BuildCost:
    values = sum(value.nbytes for value in model.state_dict().values())
    # Files, such as a library's code, are left out: the kernel takes their pages back when memory is short.
    peak = meter.stop() - meter.files
    limits.give_back()
    return BuildCost(libraries=max(0, meter.anonymous - values), peak=max(0, peak))


def _exchanged(blueprint: Blueprint, depth: int, units: tuple[str, ...]) -> list[str]:
    """Tensors of some of the units that a depth exchanges."""
    return tensor_names(unit for unit in blueprint.exchanged_by(depth) if unit.id in units)


def _split(name: str) -> Split:
    if name == "train":
        return "train"
    if name == "test":
        return "test"
    raise DataError(f"there is no split {name!r}: train or test")


def _kind(error: FedLPError) -> str:
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, ExportError):
        return "export"
    return "model" if isinstance(error, ModelError) else "worker"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_MAX_REASON]
