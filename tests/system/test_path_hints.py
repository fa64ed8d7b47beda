"""What is said of a path of data that is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.spec import check_source, parse_spec


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("line 1 ", "'Line 1' is there, which differs in blanks, capitals or the way that accents are stored"),
        ("Gru\u0308n", "'Gr\u00fcn' is there"),
        ("Line%201", "write it as the disk has it, Line 1"),
        ("Linie", "there is no image directory Linie in "),
    ],
)
def test_a_path_that_is_there_under_another_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("Line 1", "Gr\u00fcn"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError) as caught:
        check_source(parse_spec(f"imagefolder:{written}"))
    assert words in str(caught.value)
