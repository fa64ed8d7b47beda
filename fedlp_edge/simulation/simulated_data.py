"""This module reads the samples of a simulation, without torch, and partitions them among all devices."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.targets import BUILT_IN_TASKS, TargetKind
from fedlp_edge.errors import ConfigError, DataError
from fedlp_edge.learning.data import sources
from fedlp_edge.learning.data.partitioners import parse_partitioner
from fedlp_edge.learning.data.readers.column_statistics import column_sums
from fedlp_edge.learning.data.readers.listing import Samples
from fedlp_edge.learning.data.spec.data_spec import Share
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.subset import indices_of_all_devices, select_indices
from fedlp_edge.simulation.experiment import Experiment
from fedlp_edge.simulation.shared_memory import AnyArray
from fedlp_edge.system.memory import system_memory


@dataclass(frozen=True, eq=False)
class SimulationData:
    """The samples of all devices and of the test set.

    Attributes:
        arrays: Arrays ``train/x`` [N, ...] as stored and ``train/y`` [N]; ``test/x`` and ``test/y`` with a test set.
        classes: Number of classes.
        scale: Factor of the stored values (``learning.data.Dataset``).
        mean: Mean by channel, for the normalisation.
        std: Standard deviation by channel, for the normalisation.
        listed: Labels of all training samples, int64, including samples that cannot be read.
        index: Position of each training sample in ``listed``, int64 [N], ascending.
        features: Statistics of the features; None if they have no names.
        groups: Number of the group of each sample in ``listed``, int64; None if the source has no groups.
        names: Names of the classes, labels or targets by number; empty if they have none.
    """

    arrays: dict[str, AnyArray]
    classes: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    listed: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None
    features: ColumnSums | None = None
    names: tuple[str, ...] = ()

    @property
    def test_samples(self) -> int:
        """Number of samples in the test set; 0 without one."""
        return len(self.arrays["test/y"]) if "test/y" in self.arrays else 0


@dataclass(frozen=True, eq=False)
class DataAssignment:
    """The assignment of training samples to devices.

    Attributes:
        arrays: Array ``members``, the sample indices of one device after the other, and array ``starts``
            [devices + 1], the position in ``members`` at which each device begins.
        priors: Share of each class in each device's samples, float64 [devices, classes].
    """

    arrays: dict[str, AnyArray]
    priors: npt.NDArray[np.float64]

    def samples_of(self, number: int) -> int:
        """Returns the number of samples of a device."""
        starts = self.arrays["starts"]
        return int(starts[number + 1] - starts[number])


@lru_cache(maxsize=1)
def read_simulation_data(
    train: str, evaluate: str, input_shape: tuple[int, ...] = (), targets: TargetKind | None = None
) -> SimulationData:
    """Reads both splits, once for consecutive experiments with the same data.

    Args:
        train: Data specification of the training samples.
        evaluate: Data specification of the test samples; empty for none.
        input_shape: Shape of one sample of the model, to which pictures are resized.
        targets: Kind of the targets that the task learns; None to take them as they look.

    Raises:
        DataError: A specification is wrong, or data are missing or unusable.
        ConfigError: The training specification names a share.
    """
    spec = parse_spec(train).for_model(input_shape)
    if spec.share is not None:
        raise ConfigError(f"[data] train = {train!r} names a share; leave it out: every device gets its own")
    listing = sources.list_samples(spec, "train", targets)
    samples = listing.samples(None)
    arrays: dict[str, AnyArray] = {"train/x": _in_memory(samples, train), "train/y": samples.y}
    if not len(samples.y):
        raise DataError(f"{train} has no samples in its train split")
    if evaluate:
        judged = parse_spec(evaluate).for_model(input_shape)
        if (judged.source, judged.argument) != (spec.source, spec.argument):
            # Nobody trains on these samples, so all of them are tested on, as a coordinator does.
            judged = judged.whole()
        held_out = sources.list_samples(judged, "test", targets)
        test = held_out.samples(select_indices(held_out.labels, judged, "test", held_out.groups))
        arrays["test/x"] = _in_memory(test, evaluate)
        arrays["test/y"] = test.y
        if not len(test.y):
            raise DataError(f"{evaluate} has no samples in its test split")
        if (evaluate, test.remarks) != (train, samples.remarks):
            _say(evaluate, test.remarks)
    _say(train, samples.remarks)
    mean, std, features = samples.mean, samples.std, None
    if samples.features:  # as a fleet agrees on them from what its devices report
        features = column_sums(arrays["train/x"], samples.features)
        mean, std = features.mean, features.std
    return SimulationData(
        arrays=arrays,
        classes=_outputs(samples, arrays),
        scale=samples.scale,
        mean=mean,
        std=std,
        listed=listing.labels,
        index=samples.index,
        groups=listing.groups,
        features=features,
        names=samples.classes,
    )


def assign_data(experiment: Experiment, simulation_data: SimulationData) -> DataAssignment:
    """Partitions the training samples as ``TRAIN#share=i/N&partition=P&seed=S`` would on each device.

    Raises:
        DataError: The partitioner is unknown, or there are too few samples.
    """
    data, fleet = experiment.data, experiment.fleet
    spec = parse_spec(data.train)
    spec = replace(
        spec,
        share=Share(0, fleet.devices, parse_partitioner(data.partition)),
        seed=experiment.seed if data.seed is None else data.seed,
        limit=data.limit or spec.limit,
    )
    # As on real devices, which partition all listed samples and then leave out those that they cannot read.
    index = simulation_data.index
    kept = [
        np.searchsorted(index, part[np.isin(part, index)])
        for part in indices_of_all_devices(simulation_data.listed, spec, simulation_data.groups)
    ]
    if (empty := next((number for number, part in enumerate(kept) if not len(part)), None)) is not None:
        raise DataError(f"{data.train}: device {empty} has no sample that can be read")
    labels = simulation_data.listed[index]
    classes = max(simulation_data.classes, 1 + int(labels.max(initial=0)))
    members = np.concatenate(kept).astype(np.int64)
    starts = np.fromiter(accumulate((len(part) for part in kept), initial=0), dtype=np.int64)
    counts = np.stack([np.bincount(labels[part], minlength=classes) for part in kept])
    priors = counts / counts.sum(axis=1, keepdims=True)
    if BUILT_IN_TASKS.get(experiment.model.task) != "class":
        priors = np.ones((len(kept), 1))  # no classes to weigh a test set by
    return DataAssignment({"members": members, "starts": starts}, priors)


def _in_memory(samples: Samples, spec: str) -> AnyArray:
    """Returns all samples as one array, which the workers of a simulation share."""
    size = len(samples.y) * math.prod(samples.shape) * (1 if samples.scale != 1 else 4)
    if not isinstance(samples.x, np.ndarray) and size > (free := system_memory()[1]):
        raise DataError(
            f"{spec}: a simulation has all samples in memory; they take {size / 1e9:.1f} GB, "
            f"but only {free / 1e9:.1f} GB are free: add limit=N"
        )
    return np.ascontiguousarray(samples.array)


def _outputs(samples: Samples, arrays: dict[str, AnyArray]) -> int:
    """Returns the number of classes, labels or numbers that are learned."""
    if samples.targets in ("labels", "values"):
        return int(samples.y.shape[1])
    return max(len(samples.classes), 1 + max(int(y.max()) for name, y in arrays.items() if name.endswith("/y")))


def _say(spec: str, remarks: str) -> None:
    if remarks:
        print(f"{spec}: {remarks}", file=sys.stderr)
