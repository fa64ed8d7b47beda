"""Sources that are not there, or that nothing can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.spec.source_checks import check_outside, check_source


def test_a_data_set_of_the_hub_is_to_be_loaded_first() -> None:
    with pytest.raises(
        DataError, match=r"there is no folder owner/name .*: hf download --repo-type dataset owner/name"
    ):
        check_source(parse_spec("huggingface:owner/name"))


def test_check_source_refuses_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_source(parse_spec("digits"))
    check_source(parse_spec("module:callable"))
    check_source(parse_spec(f"npz:{tmp_path / 'file'}"))
    check_source(parse_spec(f"imagefolder:{tmp_path}"))
    for source, wrong in (("npz", tmp_path), ("imagefolder", tmp_path / "file"), ("npz", tmp_path / "other")):
        with pytest.raises(DataError, match=str(wrong)):
            check_source(parse_spec(f"{source}:{wrong}"))


@pytest.mark.parametrize("source", ["imagefolder", "audiofolder", "csv", "parquet", "json", "npy", "huggingface"])
def test_a_mount_point_without_its_share_is_told_as_that(tmp_path: Path, source: str) -> None:
    with pytest.raises(DataError, match=f"^{tmp_path} is empty; if a share or a disk is mounted there, it is away$"):
        check_source(parse_spec(f"{source}:{tmp_path}"))
    (tmp_path / "a").touch()
    check_source(parse_spec(f"{source}:{tmp_path}"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (f"imagefolder:{'a' * 5000}", "File name too long"),
        ("imagefolder:~nobody-of-this-name/parts", "^~nobody-of-this-name/parts: this machine has no user nobody-of"),
    ],
)
def test_check_source_says_why_a_path_cannot_be_looked_at(spec: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check_source(parse_spec(spec))


def test_output_may_not_lie_among_the_samples(tmp_path: Path) -> None:
    spec = parse_spec(f"imagefolder:{tmp_path}")
    check_outside(spec, tmp_path.parent / "run", "--out")
    with pytest.raises(DataError, match=r"lies among the pictures in .*: name a place outside with --out"):
        check_outside(spec, tmp_path / "run", "--out")
