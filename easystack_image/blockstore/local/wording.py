"""Numbers in messages."""

from __future__ import annotations


def count(number: int, noun: str, plural: str = '') -> str:
    """Return how many there are: "1 image", "2 images".

    :param plural: of the noun, by default with an "s"
    """
    return f'{number} ' + (noun if number == 1 else plural or f'{noun}s')
