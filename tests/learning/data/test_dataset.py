"""Loading samples from every kind of source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data import public_datasets
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.sample_store import SamplesInMemory
from fedlp_edge.learning.data.sources import split_indices
from fedlp_edge.learning.data.spec.parsing import parse_spec


def test_load_digits_splits_all_samples_class_by_class() -> None:
    train, test = load_data("digits", "train"), load_data("digits", "test")
    assert len(train) + len(test) == 1797
    assert train.input_shape == (1, 8, 8)
    assert train.classes == tuple("0123456789")
    assert test.y.bincount().min() >= 35
    together = torch.cat([train.stored(), test.stored()]).flatten(1)
    assert len(together.unique(dim=0)) == len(torch.from_numpy(public_datasets.digits()[0]).flatten(1).unique(dim=0))


def test_batch_is_normalised() -> None:
    x, y = load_data("digits", "train").batch(slice(0, 1438))
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert abs(x.mean().item()) < 0.01
    assert abs(x.std().item() - 1) < 0.01


def test_load_fashion_mnist_reads_the_local_copy() -> None:
    test = load_data("fashion-mnist", "test")
    assert test.stored().shape == (10_000, 1, 28, 28)
    assert test.stored().dtype == torch.uint8
    assert test.classes[9] == "Ankle boot"
    assert test.y.bincount().tolist() == [1000] * 10


def test_shares_of_a_fleet_are_disjoint_and_leave_the_test_split_whole() -> None:
    parts = [load_data(f"digits#share={device}/3&partition=mixed:0.95&seed=5", "train") for device in range(3)]
    assert sum(map(len, parts)) == len(load_data("digits", "train"))
    assert len(load_data("digits#share=0/3", "test")) == len(load_data("digits", "test"))


def test_limit_keeps_a_seeded_choice() -> None:
    first, again, other = (load_data(f"digits#limit=50&seed={seed}") for seed in (1, 1, 2))
    assert len(first) == 50
    assert first.stored().equal(again.stored())
    assert not first.stored().equal(other.stored())
    assert len(load_data("digits#limit=5000")) == 1438


def test_check_fits_names_shape_and_labels() -> None:
    data = load_data("digits#limit=100")
    data.check_fits((1, 8, 8), 10)
    with pytest.raises(DataError, match="samples have shape 1x8x8 but the model takes 3x32x32"):
        data.check_fits((3, 32, 32), 10)
    with pytest.raises(DataError, match=r"the labels go up to 9 but the model has 5 classes \(0 to 4\): set"):
        data.check_fits((1, 8, 8), 5)


def test_split_indices_cover_everything_once() -> None:
    labels = np.array([0] * 10 + [1] * 20)
    train, test = split_indices(labels, 0.2, "train"), split_indices(labels, 0.2, "test")
    assert len(test) == 6
    assert sorted([*train, *test]) == list(range(30))
    assert split_indices(labels, 0.2, "test").tolist() == test.tolist()


# imagefolder


def paint(path: Path, grey: int, size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)


def test_load_imagefolder_reads_its_own_splits(tmp_path: Path) -> None:
    for name, grey in (("cat", 0), ("dog", 255)):
        paint(tmp_path / "train" / name / "a.png", grey)
        paint(tmp_path / "test" / name / "b.jpg", grey)
    train = load_data(f"imagefolder:{tmp_path}#size=4x5&channels=1", "train")
    assert train.classes == ("cat", "dog")
    assert train.stored().shape == (2, 1, 4, 5)
    assert train.batch(slice(0, 2))[0].mean(dim=(1, 2, 3)).tolist() == [-1.0, 1.0]
    assert len(load_data(f"imagefolder:{tmp_path}", "test")) == 2


def test_load_imagefolder_splits_by_name_so_that_later_pictures_move_none(tmp_path: Path) -> None:
    for number in range(40):
        paint(tmp_path / "cat" / f"{number}.png", number)
    before = load_data(f"imagefolder:{tmp_path}#size=1&channels=1", "test")
    assert 1 < len(before) < 20
    assert len(load_data(f"imagefolder:{tmp_path}#size=1&channels=1", "train")) == 40 - len(before)
    for number in range(40, 60):
        paint(tmp_path / "cat" / f"{number}.png", number)
    after = load_data(f"imagefolder:{tmp_path}#size=1&channels=1", "test")
    assert set(before.stored().flatten().tolist()) <= set(after.stored().flatten().tolist())


def test_load_imagefolder_numbers_classes_by_the_list_where_there_is_one(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "dog" / "a.png", 0)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    data = load_data(f"imagefolder:{tmp_path}", "train")
    assert data.classes == ("cat", "dog")
    assert data.y.tolist() == [1]
    paint(tmp_path / "train" / "emu" / "a.png", 0)
    with pytest.raises(DataError, match=r"is a class that .* does not name"):
        load_data(f"imagefolder:{tmp_path}", "train")


def test_load_imagefolder_refuses_in_clear_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no image directory"):
        load_data(f"imagefolder:{tmp_path / 'none'}")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="holds no train images"):
        load_data(f"imagefolder:{tmp_path}")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 1 pictures cannot be read, the first is cat/a\.png is not a picture"):
        load_data(f"imagefolder:{tmp_path}", "train")
    with pytest.raises(DataError, match="has no test directory"):
        load_data(f"imagefolder:{tmp_path}", "test")


def test_load_imagefolder_brings_pictures_to_the_size_of_the_model_unless_told_otherwise(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "cat" / "a.png", 0, size=(96, 72))
    assert load_data(f"imagefolder:{tmp_path}", "train", (3, 64, 48)).input_shape == (3, 64, 48)
    assert load_data(f"imagefolder:{tmp_path}", "train", (1, 20, 20)).input_shape == (1, 20, 20)
    assert load_data(f"imagefolder:{tmp_path}#size=16", "train", (1, 20, 20)).input_shape == (1, 16, 16)
    assert load_data(f"imagefolder:{tmp_path}", "train").input_shape == (3, 32, 32)


def test_whole_takes_all_samples_of_a_source_that_has_no_test_split(tmp_path: Path) -> None:
    for number in range(20):
        paint(tmp_path / "cat" / f"{number}.png", number)
    spec = f"imagefolder:{tmp_path}"
    assert len(load_data(parse_spec(spec).whole(), "train")) == 20
    assert len(load_data(parse_spec(spec).whole(), "test")) == 20
    for divided in (
        f"{spec}#holdout=0.2",
        f"{spec}#share=0/1",
    ):  # partitioned among a fleet, or by the owner's own word
        assert len(load_data(parse_spec(divided).whole(), "train")) < 20


def test_dataset_keeps_pixels_as_bytes() -> None:
    data = load_data("digits#limit=10")
    assert isinstance(data, Dataset)
    assert data.nbytes == 10 * 64 + 10 * 8


def test_batches_are_what_batch_gives_one_by_one() -> None:
    data = load_data("digits#limit=50")
    order = [torch.tensor([3, 1, 4]), torch.tensor([49, 0])]
    for (x, y), indices in zip(data.batches(order), order, strict=True):
        wanted_x, wanted_y = data.batch(indices)
        assert x.equal(wanted_x)
        assert y.equal(wanted_y)


def test_batches_are_converted_in_blocks_of_bounded_size() -> None:
    pictures = torch.arange(5, dtype=torch.uint8).reshape(5, 1, 1, 1).expand(5, 3, 256, 256)
    data = Dataset.of_tensor(pictures, torch.arange(5), ("a",) * 5, scale=1.0, mean=(0.0,), std=(1.0,))
    order = [torch.tensor([4, 2]), torch.tensor([0]), torch.tensor([1, 3])]
    batches = list(data.batches(order, channels_last=True))
    assert [y.tolist() for _, y in batches] == [[4, 2], [0], [1, 3]]
    assert [x[:, 0, 0, 0].tolist() for x, _ in batches] == [[4.0, 2.0], [0.0], [1.0, 3.0]]
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x, _ in batches)
    # 786,432 bytes a sample: the first batch fills a block, the others share one.
    owners = {x.untyped_storage().data_ptr() for x, _ in batches}
    assert len(owners) == 2


def test_facts_tell_the_normalisation_and_what_each_channel_is_like_after_it() -> None:
    inputs = load_data("digits").facts().inputs
    assert inputs is not None
    assert (inputs.scale, inputs.mean, inputs.std) == (1 / 16, (0.3053,), (0.3761,))
    assert inputs.channel_mean == pytest.approx((0.0,), abs=0.05)
    assert inputs.channel_std == pytest.approx((1.0,), abs=0.05)


def test_facts_of_a_table_tell_each_column() -> None:
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    inputs = Dataset.of_tensor(x, torch.tensor([0, 1]), ("a", "b"), 1.0, (0.0,), (1.0,)).facts().inputs
    assert inputs is not None
    assert (inputs.channel_mean, inputs.channel_std) == ((2.0, 20.0), (1.0, 10.0))


def test_facts_leave_channels_out_that_are_no_numbers() -> None:
    x = torch.tensor([[1.0, float("nan")], [3.0, 30.0]])
    inputs = Dataset.of_tensor(x, torch.tensor([0, 1]), ("a", "b"), 1.0, (0.0,), (1.0,)).facts().inputs
    assert inputs is not None
    assert inputs.channel_mean == ()


def test_facts_leave_out_targets_that_are_maps_and_refuse_more_features_than_a_fleet_agrees_on() -> None:
    maps = Dataset.of_tensor(torch.zeros(2, 3), torch.zeros(2, 5000), (), 1.0, (0.0,), (1.0,), targets="values")
    assert maps.facts().targets is None
    wide = replace(maps, store=SamplesInMemory(torch.zeros(2, 5000), None, tuple(map(str, range(5000)))))
    with pytest.raises(DataError, match=r"5,000 features, and a fleet agrees on the scale of 4,096 at most: choose"):
        wide.facts()
