"""The signs that divide the text of CSV files."""

from __future__ import annotations

import pytest

from fedlp_edge.learning.data.tables.formats.csv_signs import decimal_sign, find_delimiter, find_line_end, row_reader


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        (" 1.5e+00  -2.0e-01 3 \n 2.5e+00 -1.0e-01\t4\n", " "),
        ("1,5 2,5 3\n3,5 4,5 5\n", " "),
        ('18.0   8   307.0\t"chevrolet malibu"\n15.0   8   350.0\t"buick skylark 320"\n', " "),
        ("1 234\t5 678\n2 345\t6 789\n", "\t"),
        ("1, 2, so so\n3, 4, so\n", ","),
        ("so far\nso good\n", ","),
        ("1\n2\n", ","),
    ],
)
def test_blanks_separate_numbers_where_nothing_else_does(text: str, delimiter: str) -> None:
    assert find_delimiter(text) == delimiter


@pytest.mark.parametrize(
    ("fields", "delimiter", "sign"),
    [
        (("1.5", "2"), ",", "."),
        (("1,5", "2"), ";", ","),
        (("1.234", "5,5"), ";", ","),
        (("1,234", "2.5"), ";", "."),
        (("1,234", "2"), ",", "."),
        (("1.234.567",), ";", "."),
    ],
)
def test_decimal_sign_stands_before_other_than_three_digits(fields: tuple[str, ...], delimiter: str, sign: str) -> None:
    assert decimal_sign([fields], delimiter) == sign


def test_semicolons_that_end_few_lines_or_separate_fields_stay() -> None:
    assert find_line_end("a,b\n1,x;\n2,y\n3,z\n", ",") == ""
    assert find_line_end("a;b;\n1;2;\n", ";") == ""
    assert find_line_end("a,b\n1,x;\n2,y;\n", ",") == ";"


def test_blanks_become_one_where_they_separate() -> None:
    assert list(row_reader(["  1   2\t3 \n"], " ")) == [["1", "2", "3"]]
