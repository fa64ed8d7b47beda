"""What comes on standard input is told apart by its first line."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec

from fedlp_edge.cli.models.standard_input import read_standard_input
from fedlp_edge.errors import DataError
from fedlp_edge.learning.export.inference import Sample
from fedlp_edge.learning.export.metadata import OnnxMetadata
from tests.learning.export.test_inference_tasks import PAIR


def read(content: bytes, metadata: OnnxMetadata = PAIR) -> list[object]:
    stream = io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]  # a stream in memory is raw enough
    found = read_standard_input(stream, metadata)
    return [
        (entry.name, entry.values.tolist()) if isinstance(entry, Sample)
        else str(entry) if isinstance(entry, DataError)
        else entry
        for entry in found
    ]  # fmt: skip


def test_lines_are_paths_or_numbers() -> None:
    assert read("über uns.png\n\n[1, 2]\r\n[]\nb.npy".encode()) == [
        Path("über uns.png"),
        ("line 3", [1.0, 2.0]),
        "line 4 holds float32 [0]; the model takes one sample of 2",
        Path("b.npy"),
    ]


def test_bytes_are_one_file() -> None:
    for content in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x00\x01WEBP"):
        assert read(content) == [
            "the model takes samples of shape 2, not pictures: give it a .npy file or a table (.csv, .parquet)"
        ]


def test_a_table_is_refused_once_and_not_line_by_line() -> None:
    columns = msgspec.structs.replace(PAIR, features=("load", "heat"))
    said = "standard input holds the rows of a table: save them as FILE.csv, and name that"
    for header in (b"heat,load", b'\xef\xbb\xbf"load";"heat"', b"when\tload"):
        assert read(header + b"\n1,2\n3,4\n", columns) == [said]
    assert read(b"load\n", columns) == [Path("load")]


def test_nothing_is_nothing() -> None:
    assert read(b"") == []
