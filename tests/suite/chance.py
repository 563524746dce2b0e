"""What visitors choose at random, so that answers cannot be written in: the same for a seed."""

import random

CHANCE = random.Random()  # seeded by --seed
LETTERS = "abcdefghijklmnopqrstuvwxyz"
OTHERS = "éßñøžλж中😀"


def word(length=8):
    """A word that nobody has written before."""
    return "".join(CHANCE.choices(LETTERS, k=length))


def name():
    """A name as people have them, with a letter that is not in ASCII."""
    return f"{word(6).capitalize()}{CHANCE.choice(OTHERS)} {word(5).capitalize()}"


def blob(length=100):
    """Bytes of every kind."""
    return CHANCE.randbytes(length)
