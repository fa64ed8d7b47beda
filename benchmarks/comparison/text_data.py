"""Short texts in ten languages: names of places, languages and currencies, and what programs say to people.

The names are those that Babel has from CLDR, as in the example ``text``; what programs say are the translations of
Django. Longer texts are cut into pieces of 32 bytes. A token is a byte with the one before it, hashed to 511 numbers.
Which texts are the test, and which of the others validate, their digests decide, and of the same releases of both
packages everybody makes the same samples.

``python -m benchmarks.comparison.text_data`` writes them and says where; the comparison does so by itself.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / "runs" / "comparison" / "text"
"""Where they are written; it is no part of the repository."""

RELEASES = {"babel": "2.19.0", "django": "5.2.8"}
"""Packages with the texts, and their releases: others have a few other texts."""

LANGUAGES = ("cs", "da", "de", "es", "fi", "fr", "it", "nl", "pl", "pt")
"""Those of the example ``text``; their number in this order is the class."""

LENGTH = 32
"""Bytes of a sample, and its tokens; shorter ones are filled up with zeros, which no text has."""

VOCABULARY = 512
"""Tokens that there are: 0 behind the end, and 511 for pairs of bytes."""

LEAST = 10
"""Bytes of a text, or of the last piece of a longer one, below which it is left out."""

TESTED = 0.2
"""Share of the texts that are the test."""

VALIDATING = 1 / 6
"""Share of the other texts that validate: as much as of Fashion-MNIST."""

DIGEST = "02ed7afb8fd7de86ed9ad7b260b11d73c1805a8d9f24dc4e3cf901d00bfa5830"
"""SHA-256 of all samples and labels in the order in which they are written."""

Samples = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def prepare(directory: Path = DIRECTORY) -> Path:
    """Writes ``test.npz`` and ``validation.npz``, if that is not done yet; returns the directory.

    Both hold ``x_train``, ``y_train``, ``x_test`` and ``y_test``. The test of the second one is a part of the training
    samples of the first one, and its training samples are the rest of them.

    Raises:
        SystemExit: a package with texts is not installed in its release, or has other texts than it had.
    """
    if directory.is_dir():
        return directory
    for package, release in RELEASES.items():
        if find_spec(package) is None or metadata.version(package) != release:
            wanted = " ".join(f"{name}=={number}" for name, number in RELEASES.items())
            sys.exit(f"error: the texts are in packages: pip install --no-deps {wanted}")
    test, validation, rest = divided({code: names(code) | messages(code) for code in LANGUAGES})
    found = hashlib.sha256(b"".join(array.tobytes() for part in (test, validation, rest) for array in part)).hexdigest()
    if found != DIGEST:
        sys.exit(f"error: these are not the texts of the kept cells: their digest is {found}, not {DIGEST}")
    # Nothing has the name of the directory before all of it is there.
    partial = directory.with_name(f"{directory.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    both = tuple(np.concatenate(arrays) for arrays in zip(validation, rest, strict=True))
    for name, (x_train, y_train), (x_test, y_test) in (("test", both, test), ("validation", rest, validation)):
        np.savez(partial / f"{name}.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    partial.rename(directory)
    return directory


def names(code: str) -> set[str]:
    """Names of countries, languages, currencies and scripts in a language."""
    from babel import Locale  # noqa: PLC0415  # for whoever makes the samples alone

    locale = Locale(code)
    tables = (locale.territories, locale.languages, locale.currencies, locale.scripts)
    return {str(text) for table in tables for text in table.values()}


def messages(code: str) -> set[str]:
    """What Django and the applications that come with it say in a language."""
    from babel.messages.mofile import read_mo  # noqa: PLC0415  # for whoever makes the samples alone

    package = find_spec("django")
    if package is None or package.origin is None:
        return set()
    said: set[str] = set()
    for path in Path(package.origin).parent.rglob(f"locale/{code}/LC_MESSAGES/*.mo"):
        with path.open("rb") as file:
            for message in read_mo(file):
                if message.id:  # the head of a file has none
                    forms = message.string if isinstance(message.string, (tuple, list)) else (message.string,)
                    said.update(" ".join((form or "").split()) for form in forms)
    return said


def divided(texts: Mapping[str, Collection[str]]) -> tuple[Samples, Samples, Samples]:
    """Divides texts into those of the test, those that validate, and those to train on.

    A text is in one part with all of its pieces. What is the same in two languages belongs to neither.

    Args:
        texts: by language.

    Returns:
        Tokens [N, 32] and numbers of the languages [N] of each part, as many of every language.
    """
    used = Counter(text for group in texts.values() for text in group)
    parts: tuple[list[tuple[bytes, bytes, int]], ...] = ([], [], [])
    for number, group in enumerate(texts.values()):
        own = sorted((text.encode() for text in group if used[text] == 1), key=_digest)
        own = [text for text in own if len(text) >= LEAST]
        tested = round(TESTED * len(own))
        validating = tested + round(VALIDATING * (len(own) - tested))
        for part, chosen in zip(parts, (own[:tested], own[tested:validating], own[validating:]), strict=True):
            part += [(_digest(piece), piece, number) for text in chosen for piece in pieces(text)]
    return tuple(_balanced(part, len(texts)) for part in parts)  # type: ignore[return-value]  # three of three


def pieces(text: bytes) -> list[bytes]:
    """The pieces of a text, with zeros behind the last one; what is left at its end counts if it is long enough."""
    cut = [text[start : start + LENGTH] for start in range(0, len(text), LENGTH)]
    return [piece.ljust(LENGTH, b"\0") for piece in cut if len(piece) >= LEAST]


def tokens(pieces: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Tokens of pieces of text: each byte with the one before it, or with 0 at the beginning, as one of 511 numbers.

    Args:
        pieces: bytes [N, 32].
    """
    here = pieces.astype(np.int64)
    before = np.pad(here[:, :-1], ((0, 0), (1, 0)))
    # Knuth's multiplicative hash: the high bits of 32.
    mixed = (256 * before + here) * 2654435761 % 2**32
    return np.where(here == 0, 0, 1 + mixed * (VOCABULARY - 1) // 2**32)


def _balanced(part: list[tuple[bytes, bytes, int]], languages: int) -> Samples:
    """As many samples of every language, in the order of their digests."""
    counted = Counter(number for _, _, number in part)
    least = min(counted[number] for number in range(languages))
    taken: Counter[int] = Counter()
    chosen = []
    for _, piece, number in sorted(part):
        taken[number] += 1
        if taken[number] <= least:
            chosen.append((piece, number))
    x = np.frombuffer(b"".join(piece for piece, _ in chosen), np.uint8).reshape(-1, LENGTH)
    return tokens(x), np.array([number for _, number in chosen], np.int64)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


if __name__ == "__main__":
    print(prepare())
