"""Groups of the files in folders of pictures and sounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.readers.groups import groups_by_path, numbered_groups
from fedlp_edge.learning.data.sources import list_samples
from fedlp_edge.learning.data.spec.parsing import parse_spec


def spoken(root: Path) -> Path:
    """Two words of three speakers, as the Speech Commands call them, and one of nobody."""
    for number, name in enumerate(["no/b_nohash_0", "no/b_nohash_1", "yes/a_nohash_0", "yes/c_nohash_0", "yes/noise"]):
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        scipy.io.wavfile.write(path, 16_000, np.full(400, number, np.int16))
    return root


def seen(root: Path) -> Path:
    """Pictures of two patients, by a list."""
    for number in range(4):
        Image.new("L", (2, 2), number).save(root / f"{number}.png")
    rows = ["image,patient,sick", "0.png,p2,no", "1.png,p1,yes", "2.png,p2,yes", "3.png,,no"]
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def test_speaker_is_found_in_the_name_of_the_file(tmp_path: Path) -> None:
    text = f"audiofolder:{spoken(tmp_path)}#group=([^/]+)_nohash"
    listing = list_samples(parse_spec(text).whole(), "train")
    assert (listing.group_names, listing.groups.tolist()) == (("a", "b", "c"), [1, 1, 0, 2])  # type: ignore[union-attr]
    assert listing.labels.tolist() == [0, 0, 1, 1]
    data = load_data(parse_spec(text + "&only=a,c").whole())
    assert (data.y.tolist(), data.classes) == ([1, 1], ("no", "yes"))
    assert data.remarks == "left out: 1 file without a group"


def test_each_device_of_a_share_has_whole_groups(tmp_path: Path) -> None:
    text = f"audiofolder:{spoken(tmp_path)}#group=([^/]+)_nohash&holdout=0&share="
    shares = [load_data(parse_spec(f"{text}{device}/3"), "train") for device in range(3)]
    assert [share.y.tolist() for share in shares] == [[1], [0, 0], [1]]


def test_column_of_the_list_tells_whose_a_picture_is(tmp_path: Path) -> None:
    data = load_data(parse_spec(f"imagefolder:{seen(tmp_path)}#group=patient&size=2&channels=1&only=p2").whole())
    assert (data.classes, data.y.tolist()) == (("no", "yes"), [0, 1])
    assert data.stored().reshape(2, -1)[:, 0].tolist() == [0, 2]


def test_pictures_in_class_folders_are_grouped_by_their_paths(tmp_path: Path) -> None:
    for name in ("good/line1/a.png", "good/line2/b.png", "bad/line2/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    listing = list_samples(parse_spec(f"imagefolder:{tmp_path}#group=line[0-9]").whole(), "train")
    assert (listing.group_names, listing.groups.tolist()) == (("line1", "line2"), [1, 0, 1])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (
            "group=(a",
            r"group=\(a is no regular expression \(.*\); it is looked for in paths, such as 'no/b_noh",
        ),
        (
            "group=speaker",
            "is neither a column of a labels.csv nor matches a path, such as 'no/b_nohash_0.wav'",
        ),
        ("group=([^/]%2B)_nohash&only=d", "has no group 'd': it has a, b, c"),
        ("only=a", "only= chooses groups; add group="),
    ],
)
def test_what_finds_no_group_is_named(tmp_path: Path, option: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(parse_spec(f"audiofolder:{spoken(tmp_path)}#{option}").whole())


def test_whole_match_is_the_group_without_parentheses() -> None:
    assert groups_by_path(["x/p12-3.wav", "x/q.wav"], r"p\d+", "sounds") == ["p12", ""]


def test_groups_are_numbered_by_name_and_whole_numbers_by_value() -> None:
    numbers, names = numbered_groups(["10", "anna", "9", "10", ""])
    assert names == ("9", "10", "", "anna")
    assert numbers.tolist() == [1, 3, 0, 1, 2]


def test_no_groups_have_no_names() -> None:
    numbers, names = numbered_groups([])
    assert (numbers.tolist(), names) == ([], ())
