from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.spec.foreign_kinds import foreign_kind
from fedlp_edge.learning.data.spec.parsing import parse_spec


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fed_emnist_train.h5", "HDF5 files are not read as they are; a function of yours reads them with h5py"),
        ("MAT", "MATLAB files"),
        ("scan.nii.gz", "reads them with nibabel: name it as module:callable"),
        ("data.pkl", "they run whatever code they hold: save x and y with numpy.savez, and name npz:FILE"),
        ("one.PNG", "name the folder that holds these: imagefolder:DIR"),
    ],
)
def test_a_kind_that_is_not_read_is_told_what_to_do(name: str, words: str) -> None:
    assert words in foreign_kind(name)


@pytest.mark.parametrize("name", ["", "a.csv", "shop.data:load", "shop:readers.excel", "leaflet", "imagefolder"])
def test_other_names_are_none_of_them(name: str) -> None:
    assert foreign_kind(name) == ""


def test_a_module_may_be_called_like_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_spec("shop.h5:load").source == "callable"
    assert parse_spec("leaf:load").argument == "leaf:load"
    (tmp_path / "femnist").mkdir()
    with pytest.raises(DataError, match="LEAF's files are not read as they are"):
        parse_spec("leaf:femnist")
    with pytest.raises(DataError, match="MATLAB files are not read as they are"):
        parse_spec("mat:bearings/normal_0.mat")


@pytest.mark.parametrize(
    ("spec", "file", "words"),
    [
        ("csv", "a.xlsx", "holds no table: .*; workbooks are not read as they are; save the table as CSV"),
        (
            "imagefolder",
            "ill/a.npy",
            "where each .npy file is a sample, a function of yours reads them with torchvision's",
        ),
        ("npy", "ill/a.npy", "has no x.npy .*; where each .npy file is a sample, a function of yours reads them"),
        ("imagefolder", "ill/a.dcm", "holds no train images: .*; DICOM pictures are not read as they are"),
    ],
)
def test_a_folder_of_nothing_else_is_told_so(tmp_path: Path, spec: str, file: str, words: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(DataError, match=words):
        load_data(f"{spec}:{tmp_path}")
