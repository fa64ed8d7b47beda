"""Tests of samples that come out of stored data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from tests.learning.data.hugging_face.parquet_datasets import (
    class_label,
    encoded,
    encoded_pixels,
    pictures,
    table,
    write_arrow,
    write_parquet,
)
from tests.learning.data.sounds.test_sound_reader import wave

IMAGE = {"_type": "Image"}
ANIMALS = class_label("cat", "dog")


def load(path: Path, options: str = "", split: Any = "train", **more: Any) -> Dataset:
    return load_data(f"huggingface:{path}" + (f"#{options}" if options else ""), split, **more)


def write_animals(root: Path) -> None:
    features = {"image": IMAGE, "label": ANIMALS}
    made = table({"image": pictures([10, 20, 30]), "label": [0, 1, 1]}, features)
    write_parquet(root / "data" / "train-00000-of-00001.parquet", made)
    made = table({"image": pictures([40]), "label": [0]}, features)
    write_parquet(root / "data" / "test-00000-of-00001.parquet", made)


def test_pictures_of_the_hub_have_their_splits_and_class_names(tmp_path: Path) -> None:
    write_animals(tmp_path)
    data = load(tmp_path, "size=2&channels=1")
    assert data.input_shape == (1, 2, 2)
    assert data.stored()[:, 0, 0, 0].tolist() == [10, 20, 30]
    assert (data.y.tolist(), data.classes) == ([0, 1, 1], ("cat", "dog"))
    test = load(tmp_path, "size=2&channels=1", "test")
    assert (test.stored()[:, 0, 0, 0].tolist(), test.y.tolist()) == ([40], [0])


def test_pictures_take_the_size_of_the_model(tmp_path: Path) -> None:
    write_animals(tmp_path)
    assert load(tmp_path, input_shape=(3, 8, 6)).input_shape == (3, 8, 6)


def test_what_save_to_disk_writes_is_read_alike_and_held_out_by_content(tmp_path: Path) -> None:
    made = table({"image": pictures(range(40)), "label": [0, 1] * 20}, {"image": IMAGE, "label": ANIMALS})
    write_arrow(tmp_path / "one" / "data-00000-of-00001.arrow", made)
    write_arrow(tmp_path / "other" / "data-00000-of-00001.arrow", made.take(list(reversed(range(40)))))
    parts = {}
    for name in ("one", "other"):
        for split in ("train", "test"):
            data = load(tmp_path / name, "size=2&channels=1&holdout=0.2", split)
            parts[name, split] = set(data.stored()[:, 0, 0, 0].tolist())
    assert parts["one", "train"] == parts["other", "train"]
    assert parts["one", "test"] == parts["other", "test"]
    assert parts["one", "train"] | parts["one", "test"] == set(range(40))
    assert not parts["one", "train"] & parts["one", "test"]
    assert parts["one", "test"]


def test_pictures_beyond_the_memory_are_decoded_when_they_are_needed(tmp_path: Path) -> None:
    write_animals(tmp_path)
    data = load(tmp_path, "size=2&channels=1&cache=0")
    assert not data.in_memory
    assert data.stored()[:, 0, 0, 0].tolist() == [10, 20, 30]


def test_encoded_and_decoded_pictures_keep_to_the_memory_together(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (40, 64, 64), np.uint8)
    fields: list[dict[str, Any]] = [{"bytes": encoded_pixels(pixels), "path": None} for pixels in noise]
    write_parquet(tmp_path / "a.parquet", table({"image": fields, "label": [0] * 40}, {"label": ANIMALS}))
    data = load(tmp_path, "size=200&channels=1&cache=1&holdout=0")
    together = sum(len(field["bytes"]) for field in fields)
    decoded = (1_000_000 - together) // 40_000 * 40_000
    positions = 40 * (8 + 4)
    assert data.store.nbytes == together + decoded + positions < 1_000_000


def test_a_share_and_a_limit_choose_rows(tmp_path: Path) -> None:
    made = table({"image": pictures(range(9)), "label": [0] * 9}, {"image": IMAGE, "label": ANIMALS})
    write_parquet(tmp_path / "a.parquet", made)
    parts = [load(tmp_path, f"size=2&channels=1&holdout=0&share={share}/3") for share in range(3)]
    assert sorted(grey for part in parts for grey in part.stored()[:, 0, 0, 0].tolist()) == list(range(9))
    assert len(load(tmp_path, "size=2&channels=1&holdout=0&limit=2")) == 2


def test_groups_are_devices_of_a_simulated_fleet(tmp_path: Path) -> None:
    columns = {"image": pictures([1, 2, 3, 4]), "writer": ["b", "a", "b", None], "label": [0, 0, 1, 1]}
    write_parquet(tmp_path / "a.parquet", table(columns, {"image": IMAGE, "label": ANIMALS}))
    only = load(tmp_path, "size=2&channels=1&group=writer&only=b&holdout=0")
    assert only.stored()[:, 0, 0, 0].tolist() == [1, 3]
    share = load(tmp_path, "size=2&channels=1&group=writer&share=1/3&holdout=0")
    assert share.stored()[:, 0, 0, 0].tolist() == [2]


def test_rows_without_a_picture_or_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    columns = {"image": pictures([1, None, 3, 4]), "label": [0, 0, -1, 1], "id": [1, 2, 3, 4]}
    write_parquet(tmp_path / "a.parquet", table(columns, {"image": IMAGE, "label": ANIMALS}))
    data = load(tmp_path, "size=2&channels=1&holdout=0")
    assert data.stored()[:, 0, 0, 0].tolist() == [1, 4]
    assert data.remarks == "left out: 1 row without a sample, 1 row without a label, the columns id"


def test_a_damaged_picture_is_left_out_with_its_row(tmp_path: Path) -> None:
    fields = [{"bytes": content, "path": None} for content in (encoded(1), b"none", encoded(3))]
    write_parquet(tmp_path / "a.parquet", table({"image": fields, "label": [0, 0, 1]}, {"label": ANIMALS}))
    data = load(tmp_path, "size=2&channels=1")
    assert data.y.tolist() == [0, 1]
    assert data.remarks == "left out: 1 picture that cannot be read (row 2 of a.parquet is not a picture)"


def test_pictures_that_are_only_named_are_read_beside_the_table_or_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.png").write_bytes(encoded(7))
    fields = pa.array([{"bytes": None, "path": "files/a.png"}], pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    write_parquet(tmp_path / "a.parquet", pa.table({"image": fields, "label": [0]}))
    assert load(tmp_path, "size=2&channels=1&holdout=0").stored().flatten().tolist() == [7] * 4
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "files").rename(tmp_path / "elsewhere" / "files")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load(tmp_path, "size=2&channels=1&holdout=0").stored().flatten().tolist() == [7] * 4
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"names the file 'files/a.png' and does not hold it, .*: store the"):
        load(tmp_path)


@pytest.mark.parametrize("features", [{"audio": {"_type": "Audio"}, "word": ANIMALS}, {"word": ANIMALS}])
@pytest.mark.parametrize("cache", ["", "&cache=0"])
def test_sounds_are_spectrograms_whether_a_feature_says_so_or_not(tmp_path: Path, features: Any, cache: str) -> None:
    contents = [wave(3000), b"RIFF none", wave(200)]
    fields = [{"bytes": content, "path": f"{number}.wav"} for number, content in enumerate(contents)]
    columns = {"audio": fields, "speaker": [3, 3, 12], "word": [0, 1, 1]}
    write_parquet(tmp_path / "a.parquet", table(columns, features))
    data = load(tmp_path, f"group=speaker&only=12&rate=8000&seconds=0.1&mels=4&holdout=0{cache}")
    assert (data.input_shape, data.y.tolist(), data.in_memory) == ((1, 4, 11), [1], not cache)
    assert data.stored()[0, 0].mean(dim=1).argmax() == 0
    data = load(tmp_path, f"target=word&rate=8000&seconds=0.1&mels=4&holdout=0{cache}")
    assert data.stored()[[0, 2], 0].mean(dim=2).argmax(dim=1).tolist() == [3, 0]
    assert "the first is row 2 of a.parquet is damaged" in data.remarks


def test_columns_of_arrays_are_samples_as_they_stand(tmp_path: Path) -> None:
    values = [[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]
    write_parquet(tmp_path / "a.parquet", pa.table({"signal": values, "label": ["up", "down"]}))
    data = load(tmp_path, "holdout=0")
    assert data.stored().tolist() == values
    assert (data.y.tolist(), data.classes) == ([1, 0], ("down", "up"))
    assert data.batch(slice(None))[0].tolist() == values  # nothing scales them


def test_tensors_of_arrow_have_their_shape(tmp_path: Path) -> None:
    kind = pa.fixed_shape_tensor(pa.uint8(), (1, 2, 2))
    tensors = pa.ExtensionArray.from_storage(kind, pa.array([[1, 2, 3, 4]], kind.storage_type))
    write_parquet(tmp_path / "a.parquet", pa.table({"x": tensors, "y": [1]}))
    data = load(tmp_path)
    assert (data.stored().tolist(), data.stored().numpy().dtype) == ([[[[1, 2], [3, 4]]]], np.uint8)


def test_lists_of_classes_are_labels(tmp_path: Path) -> None:
    columns = {"image": pictures([1, 2]), "objects": [[0, 1], []]}
    features = {"image": IMAGE, "objects": {"_type": "Sequence", "feature": ANIMALS}}
    write_parquet(tmp_path / "a.parquet", table(columns, features))
    data = load(tmp_path, "size=2&channels=1")
    assert (data.targets, data.y.tolist(), data.classes) == ("labels", [[1, 1], [0, 0]], ("cat", "dog"))


def test_numbers_are_the_targets_of_a_regression(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pa.table({"x": [[1.0], [2.0], [3.0]], "age": [0.5, None, 1.5]}))
    data = load(tmp_path, "target=age&holdout=0", targets="values")
    assert data.y.tolist() == [[0.5], [1.5]]


def test_words_are_numbered_with_those_of_the_other_split(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", pa.table({"x": [[1.0]], "label": ["b"]}))
    write_parquet(tmp_path / "test.parquet", pa.table({"x": [[1.0]], "label": ["a"]}))
    data = load(tmp_path)
    assert (data.y.tolist(), data.classes) == ([1], ("a", "b"))


def test_anomalies_need_no_target(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", pa.table({"x": [[1.0], [2.0]]}))
    assert load(tmp_path, targets="none").y.tolist() == [0, 0]


TWO_LABELS = {"fine_label": class_label("ant", "bee"), "coarse_label": class_label("insect")}


@pytest.mark.parametrize(
    ("columns", "features", "options", "message"),
    [
        (
            {"img": pictures([1]), "fine_label": [0], "coarse_label": [0]},
            TWO_LABELS,
            "",
            r"fine_label and coarse_label are all classes: name one with target=$",
        ),
        ({"x": [[1.0]], "z": [3]}, {}, "", r"name the column that is learned with target=; there are x, z$"),
        ({"x": [[1.0]], "z": [[2.0]], "y": [0]}, {}, "", r"several columns hold samples \(x, z\): name one with"),
        ({"text": ["hello"], "label": [0]}, {}, "", r"column 'text' holds text, which a model does not take as it is"),
        ({"a": [1.5], "label": [0]}, {}, "", r"column 'a' holds single numbers: .* for parquet:FILE#target=COLUMN$"),
        ({"label": [0]}, {}, "", r"has no column of samples beside that of the targets$"),
        ({"x": [[1.0]], "y": [0]}, {}, "target=z", r"has no column 'z'; it has x, y$"),
        ({"x": [[1.0]], "y": [0]}, {}, "features=y", r"features=y is the column that is learned, or that of"),
        ({"x": [[1.0], [1.0, 2.0]], "y": [0, 1]}, {}, "", r"column 'x' holds arrays of different shapes: bring them"),
        ({"x": [[1.0, None]], "y": [0]}, {}, "", r"column 'x' holds arrays with gaps: fill them in"),
        ({"x": [[1.0]], "label": [-1]}, {"label": ANIMALS}, "", r"none of its 1 rows has a label: this may be"),
        ({"x": [[1.0]], "y": [0], "g": ["a"]}, {}, "group=g&only=b", r"has no rows of g b$"),
        ({"x": [[1.0]], "label": [[5]]}, {"label": [ANIMALS]}, "", r"labels go up to 5, but there are only 2 names"),
        ({"x": [], "label": []}, {"x": {"_type": "Image"}, "label": ANIMALS}, "", r"has no rows$"),
    ],
)
def test_what_cannot_be_samples_is_refused_in_one_line(
    tmp_path: Path, columns: Any, features: Any, options: str, message: str
) -> None:
    write_parquet(tmp_path / "a.parquet", table(columns, features))
    with pytest.raises(DataError, match=message):
        load(tmp_path, options)


def test_a_file_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", pa.table({"x": [[1.0]], "label": [0]}))
    write_parquet(tmp_path / "train-1.parquet", pa.table({"x": [[1.0]]}))
    with pytest.raises(DataError, match=r"train-1\.parquet has no column 'label', which .*train-0\.parquet has$"):
        load(tmp_path)


def test_files_of_arrays_of_different_shapes_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", pa.table({"x": [[1.0]], "label": [0]}))
    write_parquet(tmp_path / "train-1.parquet", pa.table({"x": [[1.0, 2.0]], "label": [0]}))
    with pytest.raises(DataError, match=r"different shapes, \[1\] and \[2\]: bring them to one"):
        load(tmp_path)
