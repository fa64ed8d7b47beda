"""What a worker process keeps from one job to the next: its processor, models, samples and compute modes."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.core.targets import BUILT_IN_TASKS, TargetKind
from fedlp_edge.errors import DataError
from fedlp_edge.learning import torch_device
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.holdout import split_holdout
from fedlp_edge.learning.data.public_datasets import Split
from fedlp_edge.learning.data.spec.data_spec import DataSpec
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.profiling.warmup import warm_up
from fedlp_edge.learning.tasks.base import LearningTask
from fedlp_edge.learning.tasks.choose_task import make_task
from fedlp_edge.learning.training.compute_cache import ComputeCache
from fedlp_edge.learning.zoo.prepared import PreparedModels
from fedlp_edge.system.cgroups import ControlGroup
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.worker.jobs import WorkerOptions

_DATASETS_KEPT = 2  # one to train on, one to evaluate on


class WorkerResources:
    """Chooses, builds and loads what jobs need when the first of them needs it.

    Args:
        options: Options of the worker process.

    Attributes:
        options: Options of the worker process.
        needs_new_process: Whether a library in this process has failed for good, so that another process must do the
            next job.
    """

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options
        self.needs_new_process = False
        self._device: torch.device | None = None
        self._models: PreparedModels | None = None
        self._compute: ComputeCache | None = None
        self._data: dict[tuple[DataSpec, Split], Dataset] = {}
        self._parts: tuple[tuple[DataSpec, TargetKind | None, float], tuple[Dataset, Dataset | None]] | None = None
        self._note = ""

    @property
    def device(self) -> torch.device:
        """The processor, chosen by the first job so that a wrong choice is that job's answer."""
        if self._device is None:
            device, self._note = torch_device.choose_device(self.options.device)
            self._set_device(device)
        return self._device or torch.device("cpu")

    @property
    def on_cuda(self) -> bool:
        """Whether a GPU has been chosen."""
        return self._device is not None and self._device.type == "cuda"

    @property
    def group(self) -> ControlGroup | None:
        """The memory control group of this process; None if it has none of its own."""
        directory = self.options.memory_group
        return None if directory is None else ControlGroup.at(Path(directory))

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
            self._models = PreparedModels(self.device, self.options.allow_models)
        return self._models

    def choose_cpu(self) -> None:
        """Trains on the CPU if the choice is free and has not been made yet: what is known of the GPU is a crash."""
        if self.options.device == "auto" and self._device is None:
            self._set_device(torch.device("cpu"))

    def leave_cuda(self, note: str) -> None:
        """Goes on with the CPU: what was on the GPU is lost, and is built and loaded anew.

        Args:
            note: Note for the owner of the device.
        """
        self._models = self._compute = None
        self._note = note
        self._set_device(torch.device("cpu"))

    def take_note(self) -> str:
        """What the owner should know and has not been given yet; empty for nothing."""
        note, self._note = self._note, ""
        return note

    def load(
        self, spec: str, split: str, input_shape: tuple[int, ...] = (), targets: TargetKind | None = None
    ) -> Dataset:
        """The samples of a specification; a few are kept.

        Args:
            spec: Specification, see :mod:`fedlp_edge.learning.data.spec.parsing`.
            split: ``train`` or ``test``.
            input_shape: Shape of one sample of the model that they are for.
            targets: What the task learns; None if it is not known yet.

        Raises:
            DataError: The data are missing or unusable.
        """
        # The shape matters to pictures alone, and other samples must not be held twice.
        unsized = parse_spec(spec).whole()
        wanted = (unsized.for_model(input_shape), _split(split))
        known = self._data.get(wanted)
        if known is None or targets not in (None, known.targets):
            # What was loaded for another size or task, such as before the model was known, is not needed any more.
            self._data.pop((unsized, wanted[1]), None)
            self._data.pop(wanted, None)
            while len(self._data) >= _DATASETS_KEPT:
                del self._data[next(iter(self._data))]
            self._data[wanted] = load_data(*wanted, targets=targets)
        return self._data[wanted]

    def load_for(self, model: ModelSettings, blueprint: Blueprint, spec: str, split: str) -> Dataset:
        """Samples in the size of a model, numbered as the fleet numbers its classes.

        Args:
            model: Settings of the model with the names of the fleet's classes.
            blueprint: Blueprint of the model.
            spec: Specification, as for ``load``.
            split: Split, as for ``load``.

        Raises:
            DataError: The data are missing, unusable or do not fit the model.
        """
        data = self.load(spec, split, blueprint.input_shape, self._targets_of(model, blueprint))
        _check_fits(data, model, blueprint)
        return _as_in_fleet(data, model)

    def load_parts(
        self, model: ModelSettings, blueprint: Blueprint, spec: str, holdout: float
    ) -> tuple[Dataset, Dataset | None]:
        """The training samples, as `load_for` gives them, in two parts.

        Args:
            model: Settings of the model with the names of the fleet's classes.
            blueprint: Blueprint of the model.
            spec: Specification, as for ``load``.
            holdout: Share of the samples that are held out.

        Returns:
            What is trained on, and what is held out; None if nothing is.

        Raises:
            DataError: The data are missing, unusable or do not fit the model.
        """
        if not holdout:
            return self.load_for(model, blueprint, spec, "train"), None
        targets = self._targets_of(model, blueprint)
        wanted = (parse_spec(spec).whole().for_model(blueprint.input_shape), targets, holdout)
        if self._parts is None or self._parts[0] != wanted:
            self._parts = None
            parts = split_holdout(self.load(spec, "train", blueprint.input_shape, targets), holdout)
            self._parts = wanted, parts
            self._data.pop((wanted[0], "train"), None)  # parts may be copies, and samples must not be held twice
        trained, held_out = self._parts[1]
        _check_fits(trained, model, blueprint)
        return _as_in_fleet(trained, model), None if held_out is None else _as_in_fleet(held_out, model)

    def task_of(self, model: ModelSettings, blueprint: Blueprint) -> LearningTask:
        """The task of a model.

        Args:
            model: Settings of the model with the names and numbers that the fleet has agreed on.
            blueprint: Blueprint of the model.

        Raises:
            ModelError: It is code of the user's own that is not allowed, or that does not work.
        """
        return make_task(model, blueprint.classes, self.options.allow_models)

    def _targets_of(self, model: ModelSettings, blueprint: Blueprint) -> TargetKind:
        return BUILT_IN_TASKS.get(model.task) or self.task_of(model, blueprint).targets

    def forget_data(self) -> None:
        """Has samples read anew when they are needed next: they have changed."""
        self._data.clear()
        self._parts = None

    def _set_device(self, device: torch.device) -> None:
        self._device = device
        torch_device.make_repeatable(device)
        warm_up(device)
        # What is loaded by now stays: the collections between jobs need not look through torch each time.
        gc.collect()
        gc.freeze()


def _split(name: str) -> Split:
    if name == "train":
        return "train"
    if name == "test":
        return "test"
    raise DataError(f"there is no split {name!r}: train or test")


def _check_fits(data: Dataset, model: ModelSettings, blueprint: Blueprint) -> None:
    own_task = model.task not in BUILT_IN_TASKS
    data.check_fits(blueprint.input_shape, blueprint.classes, model.class_names, own_task=own_task)


def _as_in_fleet(data: Dataset, model: ModelSettings) -> Dataset:
    """Samples with the class numbers and the normalisation that the fleet has agreed on."""
    return data.numbered_as(model.class_names).normalised_as(model.input_names, model.input_mean, model.input_std)
