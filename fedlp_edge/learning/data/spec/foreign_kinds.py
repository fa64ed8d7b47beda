"""This module says in one line what to do with files that people have and that no source of ours reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Kind:
    """Names a kind of files.

    Attributes:
        what: What they are called.
        suffixes: Ends of the names of such files, without the point.
        words: Other names that people give to the kind before a colon.
        remedy: What to do with them.
    """

    what: str
    suffixes: tuple[str, ...]
    words: tuple[str, ...]
    remedy: str


def _by_function(library: str) -> str:
    return f"a function of yours reads them with {library}: name it as module:callable (docs/data.md has examples)"


def _in_folders(kind: str) -> str:
    return f"put those of each class into a folder called like it, and name the folder that holds these: {kind}:DIR"


_KINDS = (
    _Kind("HDF5 files", ("h5", "hdf5", "hdf", "he5"), (), _by_function("h5py")),
    _Kind("MATLAB files", ("mat",), ("matlab",), _by_function("scipy.io.loadmat, those of version 7.3 with h5py")),
    _Kind("LEAF's files", (), ("leaf",), _by_function("json")),
    _Kind("shards of WebDataset", (), ("webdataset", "wds"), _by_function("webdataset")),
    _Kind("TFRecord files", ("tfrecord", "tfrecords"), ("tfds", "tff"), _by_function("tensorflow")),
    _Kind("recordings in EDF", ("edf", "bdf"), ("mne", "eeg"), _by_function("mne")),
    _Kind("NIfTI pictures", ("nii", "nii.gz"), ("nifti",), _by_function("nibabel")),
    _Kind("DICOM pictures", ("dcm",), ("dicom",), _by_function("pydicom")),
    _Kind("files of torch.save", ("pt", "pth"), ("torch",), _by_function("torch.load")),
    _Kind(
        "pickles",
        ("pkl", "pickle", "joblib"),
        (),
        "they run whatever code they hold: save x and y with numpy.savez, and name npz:FILE",
    ),
    _Kind("workbooks", ("xlsx", "xls", "xlsm", "ods"), ("excel",), "save the table as CSV, and name csv:FILE"),
    _Kind("Feather files", ("feather",), (), "save the table as Parquet, and name parquet:FILE"),
    _Kind("data bases", ("sqlite", "sqlite3"), ("sql",), "save the table as CSV, and name csv:FILE"),
    _Kind("single pictures", ("png", "jpg", "jpeg", "bmp", "tif", "tiff"), (), _in_folders("imagefolder")),
    _Kind("single sounds", ("wav", "flac", "mp3", "ogg"), (), _in_folders("audiofolder")),
)

ARRAY_EACH = "where each .npy file is a sample, " + _by_function("torchvision's DatasetFolder")
"""What to do with a folder of arrays that are a sample each."""


def foreign_kind(name: str) -> str:
    """Returns what to do with files of a kind that is not read; empty for a name that tells none.

    Args:
        name: Name of a kind that people write before a colon, or name of a file.
    """
    lower = name.lower()
    for kind in _KINDS:
        if lower in (*kind.suffixes, *kind.words) or lower.endswith(tuple(f".{suffix}" for suffix in kind.suffixes)):
            return f"{kind.what} are not read as they are; {kind.remedy}"
    return ""
