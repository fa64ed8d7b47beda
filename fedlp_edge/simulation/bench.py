"""The work of one simulation worker: trains one virtual device after the other, with the code of the real ones.

What a device would have sent is encoded and decoded as on the wire, and added at once to this worker's share of the
round's exact sums. Memory therefore does not grow with the number of devices, and who trained what does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping

from fedlp_edge.core.aggregation import Array, LayerwiseMean, Sums
from fedlp_edge.core.blueprint import Blueprint, Unit
from fedlp_edge.core.plausibility import sizes_of
from fedlp_edge.core.seeds import head_seed, training_seed
from fedlp_edge.errors import RejectedUpdate
from fedlp_edge.learning import fallback
from fedlp_edge.learning.compute_choices import ComputeChoices
from fedlp_edge.learning.data import Dataset
from fedlp_edge.learning.fallback import Execution
from fedlp_edge.learning.layered import LayeredModel
from fedlp_edge.learning.models import build_model
from fedlp_edge.learning.modelstore import Ready, ready, state_names, tensor_names
from fedlp_edge.learning.processor import choose, make_repeatable
from fedlp_edge.learning.states import check_update, copy_values
from fedlp_edge.learning.training import Diverged, TrainingOutcome, train_round
from fedlp_edge.machine_cache import cache_directory
from fedlp_edge.simulation.judge import Judge
from fedlp_edge.simulation.orders import (
    Collect,
    Collected,
    ComputeTried,
    DeviceGaveUp,
    DeviceTrained,
    EvaluatePart,
    JudgeOwn,
    Order,
    OwnJudged,
    PartEvaluated,
    Reply,
    Study,
    TrainDevice,
    TryCompute,
)
from fedlp_edge.simulation.sharing import AnyArray
from fedlp_edge.simulation.values import leading, load, tensor, values_of
from fedlp_edge.wire.admission import admit_part, check_values
from fedlp_edge.wire.compression import encode_unit, rounding_seed
from fedlp_edge.wire.tensors import pack, pieces, unpack


class Bench:
    """One experiment on one worker.

    Args:
        study: the experiment.
        samples: ``train/x``, ``train/y``, ``test/x``, ``test/y``; ``members``, the indices of all devices' samples one
            after the other; ``starts``, where those of each device begin, and the end.
        processor: ``auto``, ``cpu`` or ``cuda``.

    Attributes:
        blueprint: of the model.
    """

    def __init__(self, study: Study, samples: Mapping[str, AnyArray], processor: str = "cpu") -> None:
        self._study = study
        self._device, note = choose(processor)
        if note:
            print(note, file=sys.stderr, flush=True)
        make_repeatable(self._device)
        self._train = self._dataset(samples["train/x"], samples["train/y"])
        self._members = tensor(samples["members"])
        self._starts = samples["starts"]
        # The experiment is the user's own, so the model that it names may run.
        self._whole: LayeredModel = build_model(study.model, study.seed, allow_models=None)
        self.blueprint: Blueprint = self._whole.blueprint(study.model.name)
        self._train.check_fits(self.blueprint.input_shape, self.blueprint.classes)
        self._judge = None
        if "test/x" in samples:
            test = self._dataset(samples["test/x"], samples["test/y"])
            self._judge = Judge(self._whole, self.blueprint, self._train, test, self._device)
        self._choices = ComputeChoices(self._device, cache_directory("compute"))
        self._parts: dict[int, Ready] = {}
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

    def do(self, order: Order) -> Reply:
        """Carries out an order; what ``Collect`` asks for, ``collect`` gives."""
        match order:
            case TrainDevice():
                return self.train(order)
            case EvaluatePart():
                return self.evaluate(order)
            case JudgeOwn():
                return self.judge_own(order)
            case TryCompute():
                return self.try_compute(order)
            case Collect():
                return Collected()

    def train(self, order: TrainDevice) -> DeviceTrained | DeviceGaveUp:
        """Trains a device, and counts its update if it arrives."""
        units = self.blueprint.exchanged_by(order.depth)
        part = self._part(order.depth)
        before = self._versions[order.version]
        held = self.blueprint.held_by(order.depth)
        at_home = state_names(unit for unit in held if unit not in units or unit.id in order.keep)
        sent = {name for names in order.retained.values() for name in names}

        def start() -> None:
            part.forget_rounds()
            load(part.model, before, tensor_names(units))
            self._fill_own(order, part)

        def attempt(execution: Execution) -> tuple[TrainingOutcome, dict[str, Array], int]:
            start()
            outcome = train_round(
                part.model,
                self._share(order.number),
                execution.of(self._study.training),
                seed=training_seed(self._study.seed, order.round, order.device),
                device=self._device,
                trainable=sent.union(at_home) if self._study.freeze else None,
                fused=execution.fused,
            )
            return outcome, *self._update(order, part, before, units)

        try:
            (outcome, deltas, nbytes), _, _ = fallback.trained(Execution(order.compute, order.thrift), attempt)
        except (Diverged, RejectedUpdate) as error:
            return DeviceGaveUp(order.device, order.round, str(error))
        kept = self._own_names(order.keep)
        if order.counted:
            if self._mean is None:
                shapes, statistics = self.blueprint.nested_shapes, self.blueprint.statistics
                self._mean = LayerwiseMean(order.capacity, shapes, statistics)
            self._mean.add(deltas, order.factor * (1 if self._study.uniform else min(outcome.samples, order.most)))
        return DeviceTrained(
            device=order.device,
            round=order.round,
            samples=outcome.samples,
            loss=outcome.loss,
            seconds=outcome.seconds,
            bytes_up=nbytes,
            compute=outcome.compute,
            own=pack(values_of(part.model, kept)) if kept else b"",
            sizes=sizes_of(units, deltas) if order.counted else {},
        )

    def try_compute(self, order: TryCompute) -> ComputeTried:
        """Finds the mode for a depth, or remembers what this machine has found before."""
        model, data = self._part(order.depth).model, self._share(order.number).to(self._device)
        found = self._choices.execution(model, data, self._study.training, self._study.model, order.depth)
        return ComputeTried(order.depth, found.compute)

    def collect(self) -> dict[str, Sums]:
        """The sums since the last call, see ``LayerwiseMean.arrays``; empty if no update was counted."""
        sums = self._mean.arrays() if self._mean is not None else {}
        self._mean = None
        return sums

    def evaluate(self, order: EvaluatePart) -> PartEvaluated:
        """Judges some exits on a part of the test set."""
        return self._judging.evaluate(order, self._versions[order.version])

    def judge_own(self, order: JudgeOwn) -> OwnJudged:
        """Judges a device's own head."""
        return self._judging.judge_own(order, self._versions[order.version])

    @property
    def _judging(self) -> Judge:
        if self._judge is None:
            raise ValueError("this experiment has no test set")
        return self._judge

    def _dataset(self, x: AnyArray, y: AnyArray) -> Dataset:
        study = self._study
        names = tuple(str(number) for number in range(study.classes))
        return Dataset(tensor(x), tensor(y), names, study.scale, study.mean, study.std)

    def _share(self, number: int) -> Dataset:
        """The samples of one device."""
        keep = self._members[int(self._starts[number]) : int(self._starts[number + 1])]
        data = self._train
        return Dataset(data.x[keep], data.y[keep], data.classes, data.scale, data.mean, data.std)

    def _part(self, depth: int) -> Ready:
        if depth not in self._parts:
            self._parts[depth] = ready(self._whole.submodel(depth), self.blueprint, self._device)
        return self._parts[depth]

    def _fill_own(self, order: TrainDevice, part: Ready) -> None:
        """Fills what stays on the device with what an earlier round left there; what it never had is drawn."""
        held = self.blueprint.held_by(order.depth)
        missing = [u for u in held if not self.blueprint.is_global(u) and u.id not in order.take]
        if missing:
            fresh = build_model(self._study.model, head_seed(self._study.seed, order.device), allow_models=None)
            copy_values(fresh, part.model, state_names(missing))
        if order.take:
            load(part.model, unpack(order.own), self._own_names(order.take))

    def _own_names(self, units: Collection[str]) -> list[str]:
        """Names of what stays on a device of these units: of its own heads everything, constants included."""
        named = [self.blueprint.by_id[unit] for unit in units]
        own = [unit for unit in named if not self.blueprint.is_global(unit)]
        return [*state_names(own), *tensor_names(unit for unit in named if unit not in own)]

    def _update(
        self, order: TrainDevice, part: Ready, before: Mapping[str, Array], units: Collection[Unit]
    ) -> tuple[dict[str, Array], int]:
        """What the coordinator would take out of the device's update, and the bytes of it.

        Raises:
            Diverged: the device itself would not send it.
            RejectedUpdate: the coordinator would refuse it.
        """
        deltas: dict[str, Array] = {}
        nbytes = 0
        after = values_of(part.model, [name for names in order.retained.values() for name in names])
        for unit in units:
            kept = order.retained.get(unit.id, ())
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
            if order.encoding == "none":
                check_values(tensors, sent)
                nbytes += sum(len(piece) for piece in pieces(sent))
            else:
                seed = rounding_seed(self._study.seed, order.round, order.device, unit.id)
                blob = encode_unit(tensors, sent, order.encoding, seed=seed)
                nbytes += len(blob)
                sent = admit_part(unit, tensors, blob, order.encoding)
            deltas.update(sent)
        return deltas, nbytes
