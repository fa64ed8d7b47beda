"""Every decoder on random and on mutated bytes: nothing escapes but its own error, and memory stays bounded."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hostile.decoders import READERS

MUTATIONS = 2000


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Honest bytes with a few bits flipped, numbers changed, pieces cut out, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(found) + 1)
        other = chance.randrange(len(found) + 1)
        first, last = sorted((place, other))
        match chance.randrange(6):
            case 0 if place < len(found):
                found[place] ^= 1 << chance.randrange(8)
            case 1 if place < len(found):
                found[place] = chance.choice(b'\x00\x01\x7f\x80\xff09-."[]{}eEn')
            case 2:
                del found[first : min(last, first + 16)]
            case 3:
                found[place:place] = found[first : min(last, first + 16)]
            case 4:
                found[place:place] = chance.randbytes(chance.randint(1, 8))
            case _:
                del found[place:]
    return bytes(found)


@pytest.mark.parametrize("name", READERS)
def test_mutated_bytes_raise_nothing_unexpected(name: str) -> None:
    reader = READERS[name]
    chance = random.Random(name)
    for example in reader.examples:
        reader.read(example)
        for _ in range(MUTATIONS):
            reader.read(mutated(example, chance))


@pytest.mark.parametrize("name", READERS)
@given(data=st.binary(max_size=400))
@settings(max_examples=60)
def test_random_bytes_raise_nothing_unexpected(name: str, data: bytes) -> None:
    READERS[name].read(data)


@pytest.mark.parametrize("name", READERS)
def test_no_bytes_make_a_decoder_allocate_much(name: str) -> None:
    reader = READERS[name]
    chance = random.Random(name)
    reader.read(reader.examples[0])  # what is made once and kept is no bomb
    for example in reader.examples:
        for _ in range(60):
            data = mutated(example, chance)
            tracemalloc.start()
            try:
                reader.read(data)
                assert tracemalloc.get_traced_memory()[1] < 300_000 + 20 * len(data), data
            finally:
                tracemalloc.stop()
