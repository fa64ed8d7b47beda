"""Three sites of which two lack a class, and nobody has written a list: the numbers must mean the same everywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.core.class_names import ClassNames
from fedlp_edge.core.settings import ModelSettings
from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.export.metadata import names_of_outputs

COLOURS = {"bolt": (200, 0, 0), "nut": (0, 200, 0), "washer": (0, 0, 200)}


def site(root: Path, *names: str) -> str:
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (6, 6), COLOURS[name]).save(root / name / f"{number}.png")
    return f"imagefolder:{root}"


def colour_of(data: Dataset, number: int) -> str:
    pixel = data.stored()[int((data.y == number).nonzero()[0])][:, 0, 0].tolist()
    return next(name for name, colour in COLOURS.items() if list(colour) == pixel)


@pytest.mark.parametrize("order", [("test", "a", "b"), ("b", "test", "a"), ("a", "b", "test")])
def test_every_site_gives_a_class_the_same_number(tmp_path: Path, order: tuple[str, ...]) -> None:
    specs = {
        "a": site(tmp_path / "a", "bolt", "nut", "washer"),
        "b": site(tmp_path / "b", "nut", "washer"),
        "test": site(tmp_path / "test", "nut", "washer"),
    }
    sites = {name: load_data(parse_spec(spec).whole(), "train", (3, 6, 6)) for name, spec in specs.items()}
    agreed = ClassNames(3)
    for name in order:
        agreed.offer(name, sites[name].facts().classes, len(sites[name]))
    agreed.settle()
    assert agreed.names == ("bolt", "nut", "washer")
    for data in sites.values():
        data.check_fits((3, 6, 6), 3, agreed.names)
        numbered = data.numbered_as(agreed.names)
        for number in np.unique(numbered.y.numpy()):
            assert colour_of(numbered, int(number)) == agreed.names[number]


def test_a_class_that_the_fleet_does_not_have_is_refused_by_its_name(tmp_path: Path) -> None:
    data = load_data(parse_spec(site(tmp_path, "nut", "washer")).whole(), "train", (3, 6, 6))
    with pytest.raises(DataError, match='no class "washer"'):
        data.numbered_as(("bolt", "nut"))


def test_outputs_without_a_name_are_no_bare_numbers_among_names() -> None:
    assert names_of_outputs(("nut", "washer"), 3) == ("nut", "washer", "class 2")
    assert names_of_outputs((), 3) == ("0", "1", "2")


def test_class_names_do_not_decide_how_a_model_is_built() -> None:
    named = ModelSettings(classes=2, class_names=("a", "b"))
    assert named.without_names == ModelSettings(classes=2)
    for names, words in ((("a", "a"), "different"), (("a", "b", "c"), "3 class_names for 2")):
        with pytest.raises(ValueError, match=words):
            ModelSettings(classes=2, class_names=names)
