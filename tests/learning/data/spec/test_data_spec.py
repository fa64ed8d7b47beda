"""What a parsed specification says of itself."""

from __future__ import annotations

from pathlib import Path

from fedlp_edge.learning.data.spec.data_spec import CACHE_BYTES, HOLDOUT
from fedlp_edge.learning.data.spec.parsing import parse_spec


def test_model_sets_what_the_specification_leaves_open() -> None:
    spec = parse_spec("imagefolder:a#channels=1")
    assert spec.for_model((3, 64, 48)).shape == (1, 64, 48)
    assert spec.for_model((7, 64, 48)) == spec.for_model((9,)) == spec
    assert parse_spec("imagefolder:a").leaves_size_open
    assert not spec.leaves_size_open
    assert parse_spec("digits").for_model((3, 64, 48)) == parse_spec("digits")


def test_source_for_one_purpose_is_whole_unless_it_says_otherwise() -> None:
    assert parse_spec("npz:a").held_out == HOLDOUT
    assert parse_spec("npz:a").whole().held_out is None
    assert parse_spec("npz:a#holdout=0.5").whole().held_out == 0.5
    assert parse_spec("npz:a#share=0/2").whole().held_out == HOLDOUT


def test_files_on_the_disk_are_watched_and_memory_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "y.npy").touch()
    assert parse_spec(f"npy:{tmp_path / 'x.npy'}").watched == (tmp_path / "x.npy", tmp_path / "y.npy")
    assert parse_spec("digits").watched == parse_spec("module:load").watched == ()
    assert parse_spec("csv:a#cache=2").memory_bound == 2_000_000
    assert parse_spec("csv:a").memory_bound == CACHE_BYTES
