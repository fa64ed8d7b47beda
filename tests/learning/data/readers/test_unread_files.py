"""Files that cannot be read are counted once, and those that were away are tried again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedlp_edge.errors import DataAwayError, DataError
from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.data.readers.cached import CachedReader
from fedlp_edge.learning.data.readers.unread_files import UnreadFiles


def test_attempts_of_many_epochs_leave_no_more_out() -> None:
    files = UnreadFiles(20)
    for _ in range(50):
        for index in range(20):
            files.was_read(index)
    for index in range(4):
        files.was_not_read(index, f"{index} is damaged", lost=False)
    assert not files.too_many
    files.was_not_read(4, "4 is damaged", lost=False)
    assert files.too_many
    assert files.too_many_are_damaged
    assert (files.tried, len(files), files.first) == (20, 5, "0 is damaged")


def test_what_was_away_counts_no_more_once_it_is_read() -> None:
    files = UnreadFiles(20)
    for index in range(5):
        files.was_not_read(index, f"{index} cannot be opened", lost=True)
    assert files.too_many
    assert not files.too_many_are_damaged
    assert not files.is_damaged(0)
    assert files.are_news()
    for index in range(5):
        files.was_read(index)
    assert not files.too_many
    assert not files.are_news()


def test_all_of_few_files_are_too_many() -> None:
    files = UnreadFiles(2)
    files.was_not_read(0, "0 is damaged", lost=False)
    assert not files.too_many
    files.was_not_read(1, "1 is damaged", lost=False)
    assert files.too_many


def on_demand(root: Path) -> Dataset:
    for number in range(20):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), number, np.uint8)).save(path)
    return load_data(f"imagefolder:{root}#size=4&channels=1&holdout=0&cache=0", "train")


def test_pictures_of_a_share_that_is_away_are_an_error_and_come_back(tmp_path: Path) -> None:
    data = on_demand(tmp_path / "share")
    for _ in range(20):
        data.stored()
    (tmp_path / "share").rename(tmp_path / "away")
    with pytest.raises(DataAwayError, match=r"cannot be read any more, the first is a/0\.png cannot be opened"):
        data.stored()
    (tmp_path / "away").rename(tmp_path / "share")
    assert sorted(data.stored()[:, 0, 0, 0].tolist()) == list(range(20))


def test_pictures_that_were_overwritten_by_rubbish_are_an_error(tmp_path: Path) -> None:
    data = on_demand(tmp_path)
    for _ in range(20):
        data.stored()
    for path in tmp_path.glob("a/*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="repair or remove them") as caught:
        data.stored()
    assert not isinstance(caught.value, DataAwayError)


def test_what_stood_for_a_picture_that_was_away_is_not_kept_in_memory(tmp_path: Path) -> None:
    data = on_demand(tmp_path)
    reader = data.store.reader  # type: ignore[attr-defined]
    cached = CachedReader(reader._reader, 10**6, reader._reader.unread_files)
    (tmp_path / "a" / "0.png").rename(tmp_path / "away.png")
    every = np.arange(20)
    assert sorted(cached.read(every)[:, 0, 0, 0].tolist()) != list(range(20))
    (tmp_path / "away.png").rename(tmp_path / "a" / "0.png")
    assert sorted(cached.read(every)[:, 0, 0, 0].tolist()) == list(range(20))
