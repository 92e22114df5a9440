"""What the fuzzer has kept breaks no reader, nor do mutations of it; `make fuzz` looks for more."""

import random

import pytest

from tests.fuzzing.targets import LONGEST, TARGETS, beginnings

MUTATIONS = 200
PIECES = (b"\r\n", b"\n", b"\0", b"\xff", b"%", b"{", b"}", b":", b"*", b"&", b"=", b"9" * 20, b"\xe2\x80\xa8", b" ")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Something is cut out, repeated, overwritten or put in, a few times."""
    for _ in range(chance.randint(1, 4)):
        begin, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        piece = chance.choice([b"", chance.choice(PIECES), bytes([chance.randrange(256)]), data[begin:end] * 2])
        data = data[:begin] + piece + data[chance.choice([begin, end]) :]
    return data[:LONGEST]


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_found_is_read(name: str) -> None:
    """Each input of the corpus, which reaches code that no other does."""
    assert beginnings(name)
    for data in beginnings(name):
        TARGETS[name](data)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_read(name: str) -> None:
    """Made by a seed, so that a failure comes again."""
    chance, corpus = random.Random(19), beginnings(name)
    for _ in range(MUTATIONS):
        TARGETS[name](mutated(chance.choice(corpus), chance))
