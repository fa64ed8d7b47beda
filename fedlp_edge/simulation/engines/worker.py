"""The work of one simulation worker: trains one virtual device after the other, with the code of the real ones.

What a device would have sent is encoded and decoded as on the wire, and added at once to this worker's share of the
round's exact sums. Memory therefore does not grow with the number of devices, and who trained what does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping

from fedlp_edge.core.algorithm.aggregation import Array, LayerwiseMean, SumArrays
from fedlp_edge.core.algorithm.plausibility import sizes_of
from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.seeds import head_seed, training_seed
from fedlp_edge.errors import RejectedUpdateError
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.model.layered import LayeredModel
from fedlp_edge.learning.state_files import check_update, copy_values
from fedlp_edge.learning.torch_device import choose, make_repeatable
from fedlp_edge.learning.training import fallback
from fedlp_edge.learning.training.compute_cache import ComputeCache
from fedlp_edge.learning.training.fallback import Execution
from fedlp_edge.learning.training.loop import DivergedError, TrainingOutcome, train_round
from fedlp_edge.learning.zoo.build import build_model
from fedlp_edge.learning.zoo.prepared import PreparedModel, prepare, state_names, tensor_names
from fedlp_edge.simulation.engines.evaluator import Evaluator
from fedlp_edge.simulation.engines.jobs import (
    ChooseCompute,
    CollectSums,
    ComputeChosen,
    DeviceGaveUp,
    DeviceTrained,
    EvaluatePart,
    EvaluatePersonalHead,
    PartEvaluated,
    PersonalHeadEvaluated,
    Reply,
    SimulationJob,
    SumsCollected,
    TrainDevice,
    WorkerSetup,
)
from fedlp_edge.simulation.engines.weight_tensors import leading, load, tensor, values_of
from fedlp_edge.simulation.shared_memory import AnyArray
from fedlp_edge.system.machine_cache import cache_directory
from fedlp_edge.wire.admission import admit_part, check_values
from fedlp_edge.wire.compression import encode_unit, rounding_seed
from fedlp_edge.wire.tensors import pack, pieces, unpack


class SimulationWorker:
    """One experiment on one worker.

    Args:
        setup: the experiment.
        samples: ``train/x``, ``train/y``, ``test/x``, ``test/y``; ``members``, the indices of all devices' samples one
            after the other; ``starts``, where those of each device begin, and the end.
        processor: ``auto``, ``cpu`` or ``cuda``.

    Attributes:
        blueprint: of the model.
    """

    def __init__(self, setup: WorkerSetup, samples: Mapping[str, AnyArray], processor: str = "cpu") -> None:
        self._setup = setup
        self._device, note = choose(processor)
        if note:
            print(note, file=sys.stderr, flush=True)
        make_repeatable(self._device)
        self._train = self._dataset(samples["train/x"], samples["train/y"])
        self._members = tensor(samples["members"])
        self._starts = samples["starts"]
        # The experiment is the user's own, so the model that it names may run.
        self._whole: LayeredModel = build_model(setup.model, setup.seed, allow_models=None)
        self.blueprint: Blueprint = self._whole.blueprint(setup.model.name)
        self._train.check_fits(self.blueprint.input_shape, self.blueprint.classes)
        self._evaluator = None
        if "test/x" in samples:
            test = self._dataset(samples["test/x"], samples["test/y"])
            self._evaluator = Evaluator(self._whole, self.blueprint, self._train, test, self._device)
        self._choices = ComputeCache(self._device, cache_directory("compute"))
        self._parts: dict[int, PreparedModel] = {}
        self._versions: dict[int, Mapping[str, Array]] = {}
        self._mean: LayerwiseMean | None = None

    def initial_weights(self) -> dict[str, Array]:
        """What the global model was built with."""
        held = self._whole.state_dict()
        return {name: held[name].numpy() for name in state_names(self.blueprint.global_units)}

    def publish(self, version: int, weights: Mapping[str, Array]) -> None:
        """Takes note of a version of the global weights; the arrays are read when they are needed."""
        self._versions = {known: arrays for known, arrays in self._versions.items() if arrays is not weights}
        self._versions[version] = weights

    def retire(self, version: int) -> None:
        """Forgets a version."""
        self._versions.pop(version, None)

    def do(self, job: SimulationJob) -> Reply:
        """Carries out an order; what ``CollectSums`` asks for, ``collect`` gives."""
        match job:
            case TrainDevice():
                return self.train(job)
            case EvaluatePart():
                return self.evaluate(job)
            case EvaluatePersonalHead():
                return self.evaluate_personal_head(job)
            case ChooseCompute():
                return self.choose_compute(job)
            case CollectSums():
                return SumsCollected()

    def train(self, job: TrainDevice) -> DeviceTrained | DeviceGaveUp:
        """Trains a device, and counts its update if it arrives."""
        units = self.blueprint.exchanged_by(job.depth)
        part = self._part(job.depth)
        before = self._versions[job.version]
        held = self.blueprint.held_by(job.depth)
        withheld_units = state_names(unit for unit in held if unit not in units or unit.id in job.keep)
        sent = {name for names in job.sent.values() for name in names}

        def start() -> None:
            part.forget_rounds()
            load(part.model, before, tensor_names(units))
            self._fill_own(job, part)

        def attempt(execution: Execution) -> tuple[TrainingOutcome, dict[str, Array], int]:
            start()
            outcome = train_round(
                part.model,
                self._share(job.number),
                execution.of(self._setup.training),
                seed=training_seed(self._setup.seed, job.round, job.device),
                device=self._device,
                trainable=sent.union(withheld_units) if self._setup.freeze else None,
                fused=execution.fused,
            )
            return outcome, *self._update(job, part, before, units)

        try:
            (outcome, deltas, nbytes), _, _ = fallback.trained(Execution(job.compute, job.memory_saving), attempt)
        except (DivergedError, RejectedUpdateError) as error:
            return DeviceGaveUp(job.device, job.round, str(error))
        kept = self._own_names(job.keep)
        if job.counted:
            if self._mean is None:
                shapes, statistics = self.blueprint.nested_shapes, self.blueprint.statistics
                self._mean = LayerwiseMean(job.capacity, shapes, statistics)
            self._mean.add(deltas, job.factor * (1 if self._setup.uniform else min(outcome.samples, job.most)))
        return DeviceTrained(
            device=job.device,
            round=job.round,
            samples=outcome.samples,
            loss=outcome.loss,
            seconds=outcome.seconds,
            bytes_up=nbytes,
            compute=outcome.compute,
            own=pack(values_of(part.model, kept)) if kept else b"",
            sizes=sizes_of(units, deltas) if job.counted else {},
        )

    def choose_compute(self, job: ChooseCompute) -> ComputeChosen:
        """Finds the mode for a depth, or remembers what this machine has found before."""
        model, data = self._part(job.depth).model, self._share(job.number).to(self._device)
        found = self._choices.execution(model, data, self._setup.training, self._setup.model, job.depth)
        return ComputeChosen(job.depth, found.compute)

    def collect(self) -> SumArrays:
        """The sums since the last call, see ``LayerwiseMean.arrays``; empty if no update was counted."""
        sums = self._mean.arrays() if self._mean is not None else SumArrays()
        self._mean = None
        return sums

    def evaluate(self, job: EvaluatePart) -> PartEvaluated:
        """Judges some exits on a part of the test set."""
        return self._evaluating.evaluate(job, self._versions[job.version])

    def evaluate_personal_head(self, job: EvaluatePersonalHead) -> PersonalHeadEvaluated:
        """Judges a device's own head."""
        return self._evaluating.evaluate_personal_head(job, self._versions[job.version])

    @property
    def _evaluating(self) -> Evaluator:
        if self._evaluator is None:
            raise ValueError("this experiment has no test set")
        return self._evaluator

    def _dataset(self, x: AnyArray, y: AnyArray) -> Dataset:
        setup = self._setup
        names = tuple(str(number) for number in range(setup.classes))
        return Dataset(tensor(x), tensor(y), names, setup.scale, setup.mean, setup.std)

    def _share(self, number: int) -> Dataset:
        """The samples of one device."""
        keep = self._members[int(self._starts[number]) : int(self._starts[number + 1])]
        data = self._train
        return Dataset(data.x[keep], data.y[keep], data.classes, data.scale, data.mean, data.std)

    def _part(self, depth: int) -> PreparedModel:
        if depth not in self._parts:
            self._parts[depth] = prepare(self._whole.submodel(depth), self.blueprint, self._device)
        return self._parts[depth]

    def _fill_own(self, job: TrainDevice, part: PreparedModel) -> None:
        """Fills what stays on the device with what an earlier round left there; what it never had is drawn."""
        held = self.blueprint.held_by(job.depth)
        missing = [u for u in held if not self.blueprint.is_global(u) and u.id not in job.take]
        if missing:
            fresh = build_model(self._setup.model, head_seed(self._setup.seed, job.device), allow_models=None)
            copy_values(fresh, part.model, state_names(missing))
        if job.take:
            load(part.model, unpack(job.own), self._own_names(job.take))

    def _own_names(self, units: Collection[str]) -> list[str]:
        """Names of what stays on a device of these units: of its own heads everything, constants included."""
        named = [self.blueprint.by_id[unit] for unit in units]
        own = [unit for unit in named if not self.blueprint.is_global(unit)]
        return [*state_names(own), *tensor_names(unit for unit in named if unit not in own)]

    def _update(
        self, job: TrainDevice, part: PreparedModel, before: Mapping[str, Array], units: Collection[Unit]
    ) -> tuple[dict[str, Array], int]:
        """What the coordinator would take out of the device's update, and the bytes of it.

        Raises:
            DivergedError: the device itself would not send it.
            RejectedUpdateError: the coordinator would refuse it.
        """
        deltas: dict[str, Array] = {}
        nbytes = 0
        after = values_of(part.model, [name for names in job.sent.values() for name in names])
        for unit in units:
            kept = job.sent.get(unit.id, ())
            if not kept:
                continue
            tensors = tuple(spec for spec in unit.tensors if spec.name in kept)
            sent = {
                spec.name: after[spec.name] - leading(before[spec.name], after[spec.name].shape)
                if spec.trainable
                else after[spec.name]
                for spec in tensors
            }
            check_update(sent, self.blueprint.statistics)
            if job.encoding == "none":
                check_values(tensors, sent)
                nbytes += sum(len(piece) for piece in pieces(sent))
            else:
                seed = rounding_seed(self._setup.seed, job.round, job.device, unit.id)
                blob = encode_unit(tensors, sent, job.encoding, seed=seed)
                nbytes += len(blob)
                sent = admit_part(unit, tensors, blob, job.encoding)
            deltas.update(sent)
        return deltas, nbytes
