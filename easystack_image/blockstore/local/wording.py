"""Numbers in messages."""

from __future__ import annotations


def count(number: int, noun: str) -> str:
    """Return how many there are: "1 image", "2 images"."""
    return f'{number} {noun}' + ('' if number == 1 else 's')
