from __future__ import annotations

from pathlib import Path

import pytest

from fedlp_edge.errors import DataError
from fedlp_edge.learning.data.dataset import load_data
from fedlp_edge.learning.data.spec.parsing import parse_spec
from fedlp_edge.learning.data.tables.formats.arff_header import arff_header

HEADER = """% 1. Title: valves
@RELATION valves

@ATTRIBUTE 'inlet pressure'  REAL
@attribute temperature numeric
@attribute state {ok,'worn out'}
@DATA
"""


def test_names_of_columns_and_the_line_of_the_data_are_found() -> None:
    header = arff_header(f"{HEADER}1,2,ok\n", Path("valves.arff"))
    assert header is not None
    assert header.columns == ("inlet pressure", "temperature", "state")
    assert (header.lines, header.below) == (7, "1,2,ok\n")


def test_other_text_has_no_such_header() -> None:
    assert arff_header("a,b\n1,2\n", Path("a.csv")) is None
    assert arff_header("", Path("a.csv")) is None


def test_rows_are_read_with_their_quotes_and_gaps(tmp_path: Path) -> None:
    path = tmp_path / "valves.arff"
    path.write_text(f"{HEADER}1.5,20,ok\n?,21,ok\n2.5,22,'worn out'\n")
    data = load_data(parse_spec(f"csv:{path}#target=state").whole())
    assert data.stored().tolist() == [[1.5, 20], [2.5, 22]]
    assert data.classes == ("ok", "worn out")
    assert f"the first is {path}:9" in data.remarks


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{HEADER}{{0 1.5, 2 ok}}\n", "is a sparse ARFF file: save it with a value for each column"),
        ("@relation a\n@attribute b\n", r"a.arff:2: this line of an ARFF header is neither @attribute nor @data"),
        ("@relation a\n", "is an ARFF file without @data: it is cut short"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        arff_header(text, Path("a.arff"))
