"""What the schemes of the comparison are compared on: each a data set, a network and a fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.comparison import activity_data, text_data
from benchmarks.comparison.scheme_memory import MODEL
from benchmarks.results.cells import Size

SKEWED = "mixed:0.95"


@dataclass(frozen=True)
class Study(Size):
    """A data set, a network and a fleet.

    Attributes:
        name: of its files and of its section of the page.
        of: what headings of the page say of it.
        pictures: how their files begin.
        model: which all schemes divide.
        classes: of the data.
        partitions: of the data among the devices, that which decides first.
        wide_levels: share of the channels of HeteroFL's wide levels: the widest, in steps of 1/16, that compute no more
            than the model's depths.
        left_out: schemes that are not compared on it.
        equal_memory: whether there are cells of equal memory.
        tuned: whether the settings that were best on validation samples of Fashion-MNIST are compared, too.
        prepare: makes the data, if they are no public data set that the library reads.
        validation: data set whose test split are training samples of the study, and whose training split are the
            others; empty for that of ``benchmarks/comparison/validation_split.py``.
    """

    name: str = "comparison"
    of: str = ""
    pictures: str = "schemes"
    model: str = MODEL
    classes: int = 10
    partitions: tuple[str, ...] = (SKEWED, "iid")
    wide_levels: tuple[float, ...] = (0.5, 0.625, 0.75, 0.8125, 1.0)
    left_out: frozenset[str] = frozenset()
    equal_memory: bool = True
    tuned: bool = True
    prepare: Callable[[], object] | None = None
    validation: str = ""

    def compared(self, schemes: Iterable[str]) -> tuple[str, ...]:
        """Those of some schemes that are compared on it."""
        return tuple(scheme for scheme in schemes if scheme not in self.left_out)

    def sources(self, seed: int, *, validation: bool = False) -> tuple[str, str]:  # noqa: ARG002  # by persons it tells
        """What the devices train on and what the global model is judged on.

        Args:
            seed: of the experiment.
            validation: whether both are parts of the training split.
        """
        held_out = self.validation or f"benchmarks.comparison.validation_split:{self.data.replace('-', '_')}"
        data = held_out if validation else self.data
        return data, data


@dataclass(frozen=True)
class StudyOfPersons(Study):
    """A study whose devices are a person's each, judged on persons of whom no device has seen anything.

    Attributes:
        persons: names of all. The first seed's test are the first of them, the second seed's the next ones.
        tested: how many are a test.
    """

    persons: tuple[str, ...] = ()
    tested: int = 2

    def sources(self, seed: int, *, validation: bool = False) -> tuple[str, str]:
        """What the devices train on and what the global model is judged on.

        Raises:
            ValueError: there is no such pair of persons, or no validation samples.
        """
        judged = self.persons[self.tested * (seed - 1) : self.tested * seed]
        if validation or len(judged) < self.tested or seed < 1:
            most = len(self.persons) // self.tested
            raise ValueError(f"{len(self.persons)} persons are tests for seeds 1 to {most}, and not for seed {seed}")
        trained = [person for person in self.persons if person not in judged]
        return f"{self.data}&only={','.join(trained)}", f"{self.data}&only={','.join(judged)}"


PICTURES_ALONE = frozenset(
    {"heterofl", "fedrolex", "fiarse", "depthfl-feddyn", "depthfl-large", "depthfl-large-feddyn", "scalefl"}
)
"""Schemes that need the network for pictures: its large heads, channels enough for narrow levels, or all of it. FedDyn
needs none of that and was tried there alone."""

FASHION_MNIST = Study(rounds=30, left_out=frozenset({"reefl"}))
"""Of pictures there is no transformer, whose class token ReeFL reads."""

QUICK = Study(
    data="digits",
    input=(1, 8, 8),
    devices=10,
    cohort=4,
    rounds=3,
    reported=2,
    every=2,
    limit=30,
    left_out=FASHION_MNIST.left_out,
)

CIFAR10 = Study(
    name="comparison-cifar10",
    of=", CIFAR-10",
    pictures="schemes-cifar10",
    data="cifar10",
    input=(3, 32, 32),
    rounds=30,
    partitions=(SKEWED,),
    left_out=PICTURES_ALONE - {"depthfl-large"} | {"depthfl", "reefl"},
    equal_memory=False,
)
"""Photographs in colour on the network, the fleet and the settings of Fashion-MNIST, with the rivals that came nearest
there. HeteroFL's wide levels are the same, as a picture of another size changes what all depths compute alike."""

ACTIVITY = StudyOfPersons(
    name="comparison-activity",
    of=", smartwatches",
    pictures="schemes-activity",
    data=f"csv:{activity_data.DIRECTORY}#target=exercise&group=person&window=128&stride=64",
    input=(6, 128),
    devices=8,
    cohort=4,
    rounds=100,
    model="small-cnn",
    classes=7,
    partitions=("group",),
    wide_levels=(0.125, 0.25, 0.5, 0.6875, 1.0),
    left_out=PICTURES_ALONE | {"reefl"},
    equal_memory=False,
    tuned=False,
    prepare=activity_data.prepare,
    persons=tuple(map(str, range(1, 11))),
)
"""Exercises from the smartwatches of ten persons, with the settings that were found on Fashion-MNIST. ``small-cnn``
brings no large heads along, HeteroFL's narrow levels would compute more than its depths, and the rivals of
``benchmarks/rivals`` are made of another network."""

TEXT = Study(
    name="comparison-text",
    of=", texts",
    pictures="schemes-text",
    data=f"npz:{text_data.DIRECTORY}/test.npz",
    validation=f"npz:{text_data.DIRECTORY}/validation.npz",
    input=(text_data.LENGTH,),
    rounds=20,
    model="benchmarks.comparison.transformer:build",
    classes=len(text_data.LANGUAGES),
    partitions=(SKEWED,),
    left_out=PICTURES_ALONE | {"heterofl-wide"},
    equal_memory=False,
    tuned=False,
    prepare=text_data.prepare,
)
"""Languages of short texts, with a transformer and the settings that were found on Fashion-MNIST. HeteroFL and those
after it narrow chains of convolutions and linear layers, and not attention and norms of tokens."""

STUDIES = {"fashion-mnist": FASHION_MNIST, "cifar10": CIFAR10, "activity": ACTIVITY, "text": TEXT}
