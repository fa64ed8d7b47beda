"""Writes the smartwatch recordings inside the package seglearn as one CSV file for each person.

The recordings (BSD licence; D. Burns et al., "Shoulder physiotherapy exercise recognition", 2018) are of seven
exercises, made with an accelerometer and a gyroscope at 50 Hz.

    python prepare.py DIRECTORY
"""

from __future__ import annotations

import csv
import pickle
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

TEST_PERSONS = (9, 10)
"""Persons whose recordings no device trains on."""
SAMPLED = {"PEN": 9, "ROW": 9, "TRAP": 10}
"""Exercises of which a test person's first seconds become a table to be answered, without saying what it is."""
SAMPLED_ROWS = 256

# What an array of arrays and numbers is made of. A pickle can name any function, and loading it would call that.
ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Loads arrays, lists and numbers, and refuses everything else."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Returns one of the few functions that arrays need.

        Raises:
            UnpicklingError: The pickle names another one.
        """
        if (module_name, global_name) not in ALLOWED:
            raise pickle.UnpicklingError(f"the recordings must not load {module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def recordings() -> dict[str, Any]:
    """Reads the package's recordings without importing the package, which would load them as they are."""
    package = find_spec("seglearn")
    if package is None or package.origin is None:
        sys.exit("error: the recordings are in the package seglearn: pip install --no-deps seglearn==1.2.5")
    with (Path(package.origin).parent / "data" / "watch_dataset.npy").open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)  # the file is a pickled array with one element
        content: dict[str, Any] = ArrayUnpickler(file, encoding="latin1").load().item()
    return content


def write(path: Path, data: dict[str, Any], persons: tuple[int, ...]) -> None:
    """Writes the recordings of some persons, one row for each moment."""
    names = [data["y_labels"][label] for label in data["y"]]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["recording", *data["X_labels"], "exercise"])
        for number, (values, name, person) in enumerate(zip(data["X"], names, data["subject"], strict=True)):
            if person in persons:
                rows.writerows([number, *(f"{value:.5g}" for value in row), name] for row in values)


def write_sample(path: Path, data: dict[str, Any], exercise: str, person: int) -> None:
    """Writes the first moments of an exercise of one person as the watch measures them."""
    recordings_of = zip(data["X"], data["y"], data["subject"], strict=True)
    values = next(x for x, label, of in recordings_of if of == person and data["y_labels"][label] == exercise)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(data["X_labels"])
        rows.writerows([f"{value:.5g}" for value in row] for row in values[:SAMPLED_ROWS])


def main() -> None:
    """Writes a file for each person who trains, one for all of them, one for those who test, and a few samples."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    data = recordings()
    training = tuple(sorted({int(person) for person in data["subject"]} - set(TEST_PERSONS)))
    for person in training:
        write(directory / f"person-{person}.csv", data, (person,))
    write(directory / "all.csv", data, training)
    write(directory / "test.csv", data, TEST_PERSONS)
    (directory / "samples").mkdir(exist_ok=True)
    for exercise, person in SAMPLED.items():
        write_sample(directory / "samples" / f"person-{person}-{exercise}.csv", data, exercise, person)
    print(f"{len(training)} persons to train on, {len(TEST_PERSONS)} to test on, in {directory}")


if __name__ == "__main__":
    main()
