"""What the dynamic loader says of a library, and what a person does about it."""

from __future__ import annotations

import pytest

from fedlp_edge.worker.loading_errors import loading_remedy


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "ImportError: /usr/lib/aarch64-linux-gnu/libgomp.so.1: cannot allocate memory in static TLS block",
            "start with LD_PRELOAD=/usr/lib/aarch64-linux-gnu/libgomp.so.1 in the environment",
        ),
        ("ImportError: libtorch_cpu.so: failed to map segment from shared object", "raise that limit (ulimit -v"),
        (
            "OSError: libtorch_cpu.so: failed to map segment from shared object: Operation not permitted",
            "is mounted noexec",
        ),
        (
            "ImportError: libopenblas.so.0: cannot open shared object file: No such file or directory",
            "install the package of the system that has libopenblas.so.0",
        ),
        (
            "ImportError: /lib/libm.so.6: version `GLIBC_2.28' not found (required by libtorch_cpu.so)",
            "built for a newer system",
        ),
    ],
)
def test_library_that_cannot_be_loaded_is_told_with_what_to_do(said: str, words: str) -> None:
    assert words in loading_remedy(said)


@pytest.mark.parametrize("said", ["", "giving up", "ImportError: cannot import name 'x'", "ValueError: failed to map"])
def test_other_last_words_have_no_remedy(said: str) -> None:
    assert loading_remedy(said) == ""
